"""ModelDrafter's book-keeping: what the draft sees, what its cache holds, and that no token is fed twice."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from engine.fakes import FakeDecoder, Language, Seen, behind, embeds, prompt_positions, seen_in
from engine.trees import Grown, Path, branch, emitted, grow, shape, shape_options, words
from specvlm.engine.caches.kv_cache import TreeCache
from specvlm.engine.drafting import ModelDrafter, NoDrafter
from specvlm.engine.tree import PAPER_TREE, DraftTree, DynamicTree, TreeShape, chain
from specvlm.engine.verification import Verdict

PROMPT = torch.tensor([3, 1, 4])
STARTS = {1: torch.tensor([0]), 3: torch.tensor([0, 5, 2])}
"""First position id of each row: one row of positions, or three as M-RoPE has them."""

ROUNDS = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 99), st.integers(0, 3)), min_size=1, max_size=5)
"""For each round: how deep the tree may be, to which node the target goes, what it says there."""
VOCABULARIES = st.integers(1, 6)
TWINLESS = st.integers(5, 7)
"""Vocabularies that have a word for each rank of a drawn tree, so that no two children of a node are the same."""
SEEDS = st.integers(0, 99)


def drafter_of(
    decoder: FakeDecoder, tree_shape: TreeShape, positions: Tensor, vocab_size: int
) -> tuple[ModelDrafter, TreeCache]:
    """A drafter whose draft has read the prompt, and the draft's cache."""
    cache = decoder.new_cache(len(PROMPT) + 20)
    decoder.prefill(embeds(PROMPT), positions, cache)
    return ModelDrafter(decoder, tree_shape, cache, int(positions.max()) + 1, vocab_size), cache


class Conversation:
    """A drafter, the answer so far, and what the draft ought to see after any of its words."""

    def __init__(self, tree_shape: TreeShape, vocabulary: int, seed: int, rows: int = 1, room: int | None = None):
        self.decoder = FakeDecoder(Language(vocabulary, seed), capacity=room, rows=rows)
        self.positions, self.shape = prompt_positions(STARTS[rows], len(PROMPT)), tree_shape
        self.drafter, self.cache = drafter_of(self.decoder, tree_shape, self.positions, vocabulary)
        self.answer: Path = (0,)

    def sees(self, more: Path = ()) -> Seen:
        """All of prompt and answer, and `more`."""
        told = (*self.answer, *more)
        return Seen((*PROMPT.tolist(), *told), tuple(map(tuple, behind(self.positions, len(told)).tolist())))

    def propose(self, max_depth: int) -> DraftTree:
        return self.drafter.propose(self.answer[-1], max_depth)

    def expected(self, max_depth: int) -> Grown:
        language = self.decoder.language
        return grow(self.shape, self.answer[-1], max_depth, lambda path: language.logits(self.sees(path)))

    def settle(self, tree: DraftTree, pick: int, bonus: int) -> Path:
        """The target goes to a node of the tree, and leaves it with a word that no draft would guess."""
        path = (0, *branch(tree.parents, pick % len(tree)))
        verdict = Verdict(path, self.decoder.vocab_size + bonus)
        self.drafter.accept(verdict)
        self.answer += emitted(tree, verdict)
        return path

    @property
    def fed(self) -> list[Seen]:
        return [seen for forward in self.decoder.steps for seen in forward]


def prefix(seen: Seen, length: int) -> Seen:
    return Seen(seen.tokens[:length], tuple(row[:length] for row in seen.positions))


@given(shape_options, ROUNDS, VOCABULARIES, SEEDS, st.sampled_from([1, 3]), st.none() | st.integers(0, 9))
def test_a_tree_grows_from_what_the_draft_says_after_prompt_answer_and_branch(
    options, rounds, vocabulary, seed, rows, room
):
    """And every row of every forward sees such a text, and the answer at consecutive positions behind the highest one
    of the prompt: no sibling, no gap, no more."""
    conversation = Conversation(shape(options), vocabulary, seed, rows, room)
    for max_depth, pick, bonus in rounds:
        expected = conversation.expected(max_depth)
        num_before = len(conversation.fed)
        tree = conversation.propose(max_depth)
        assert tree == expected.tree
        branches = {conversation.sees(path) for paths in expected.fed for path in paths}
        answer = {prefix(conversation.sees(), len(PROMPT) + i) for i in range(1, len(conversation.answer))}
        assert branches <= set(conversation.fed[num_before:]) <= branches | answer
        conversation.settle(tree, pick, bonus)


@given(shape_options, ROUNDS, TWINLESS, SEEDS)
def test_each_word_of_the_answer_is_fed_once_and_only_once(options, rounds, vocabulary, seed):
    conversation = Conversation(shape(options), vocabulary, seed)
    for max_depth, pick, bonus in rounds:
        conversation.settle(conversation.propose(max_depth), pick, bonus)
    conversation.propose(1)
    for i in range(1, len(conversation.answer) + 1):
        assert conversation.fed.count(prefix(conversation.sees(), len(PROMPT) + i)) == 1


@given(shape_options, ROUNDS, TWINLESS, SEEDS, st.none() | st.integers(0, 9))
def test_after_a_verdict_the_cache_holds_the_answer_as_far_as_it_was_fed(options, rounds, vocabulary, seed, room):
    """Never a word of a dropped branch, and never less than what was computed and turned out right."""
    conversation = Conversation(shape(options), vocabulary, seed, room=room)
    for max_depth, pick, bonus in rounds:
        tree, before = conversation.propose(max_depth), conversation.sees()
        texts = [conversation.sees(words(tree, node)) for node in range(len(tree))]
        path = conversation.settle(tree, pick, bonus)
        num_fed = sum(texts[node] in conversation.fed for node in path[1:])
        held = seen_in(conversation.cache)
        assert held == prefix(conversation.sees(), len(before.tokens) + num_fed)


@pytest.mark.parametrize("tree_shape", [PAPER_TREE, chain(3), chain(1)], ids=["paper", "chain of 3", "chain of 1"])
def test_a_leaf_is_never_fed(tree_shape):
    conversation = Conversation(tree_shape, 9, seed=5)
    for pick in (7, 0, 25):
        tree, num_before = conversation.propose(9), len(conversation.fed)
        inner = {conversation.sees(words(tree, parent)) for parent in set(tree.parents[1:])}
        leaves = {conversation.sees(words(tree, node)) for node in range(len(tree))} - inner
        assert inner <= set(conversation.fed[:num_before])
        assert leaves
        assert not leaves & set(conversation.fed)
        conversation.settle(tree, pick, 2)


def test_the_papers_tree_costs_five_forwards_a_round():
    conversation = Conversation(PAPER_TREE, 9, seed=6)
    for number in range(1, 5):
        conversation.settle(conversation.propose(9), 25, 2)
        assert len(conversation.decoder.steps) == 5 * number


def test_no_forward_where_no_guess_could_be_used():
    conversation = Conversation(PAPER_TREE, 9, seed=7)
    assert conversation.propose(0) == DraftTree((0,), (-1,))
    assert conversation.decoder.steps == []


@pytest.mark.parametrize(
    "tree_shape", [PAPER_TREE, DynamicTree(depth=5, width=4, num_nodes=25)], ids=["paper", "dynamic"]
)
@pytest.mark.parametrize("draft_vocabulary", [4, 9])
@pytest.mark.parametrize("target_vocabulary", [4, 6])
def test_only_words_that_both_models_have_are_proposed(draft_vocabulary, target_vocabulary, tree_shape):
    """Whichever has more: published pairs are padded to different sizes, with rows that stand for no word."""
    decoder = FakeDecoder(Language(draft_vocabulary, seed=8))
    positions = prompt_positions(STARTS[1], len(PROMPT))
    drafter, _ = drafter_of(decoder, tree_shape, positions, target_vocabulary)
    tree = drafter.propose(0, 5)
    assert set(tree.tokens) == set(range(min(draft_vocabulary, target_vocabulary)))


def test_a_drafter_says_how_large_its_trees_may_be():
    assert Conversation(PAPER_TREE, 9, seed=0).drafter.max_nodes == 26


def test_no_drafter_proposes_nothing():
    drafter = NoDrafter()
    assert drafter.propose(7, 5) == DraftTree((7,), (-1,))
    drafter.accept(Verdict((0,), 3))
    assert drafter.max_nodes == 1
