"""SelfDrafter with fake models: what it sees of the target's cache, and that nothing of a round outlives it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.fakes import FakeDecoder, Language, Seen, behind, embeds, prompt_positions
from engine.trees import Path, branch, emitted, grow, shape, shape_options
from specvlm.engine.caches.borrowed_cache import BorrowedCache
from specvlm.engine.loop import decode, first_token, prefill
from specvlm.engine.sampling import Chooser
from specvlm.engine.self_drafting import SelfDrafter
from specvlm.engine.sequence import Sequence, Stopping
from specvlm.engine.tree import PAPER_TREE, DraftTree, TreeShape, chain
from specvlm.engine.verification import Verdict

PROMPT = torch.tensor([3, 1, 4, 1, 5, 9, 2, 6])
VIDEO = torch.tensor([2, 3, 5, 6])
STARTS = {1: torch.tensor([0]), 3: torch.tensor([0, 5, 2])}
"""First position id of each row: one row of positions, or three as M-RoPE has them."""
KEPT = st.frozensets(st.integers(0, len(VIDEO) - 1)).map(sorted)
ALL = list(range(len(VIDEO)))


class Target:
    """A target that has read the prompt, and a self-drafter that was left the video tokens `kept`."""

    def __init__(
        self, language: Language, tree_shape: TreeShape, kept: list[int], rows: int = 1, room: int | None = None
    ):
        self.decoder, self.draft = FakeDecoder(language, room, rows), FakeDecoder(language, room, rows)
        self.positions, self.kept, self.shape = prompt_positions(STARTS[rows], len(PROMPT)), kept, tree_shape
        self.cache = self.decoder.new_cache(99)
        self.next_position = int(self.positions.max()) + 1

    def read(self, stopping: Stopping) -> Sequence:
        """Prefill; the answer has its first token."""
        sequence = Sequence(PROMPT, self.next_position, self.cache, Chooser(), stopping)
        first_token(sequence, prefill(self.decoder, sequence, embeds(PROMPT), self.positions))
        return sequence

    def drafter(self) -> SelfDrafter:
        """Made after the prefill; its decoder is the target's, but for the log of what it was asked."""
        kept = torch.tensor(self.kept, dtype=torch.long)
        self.borrowed = BorrowedCache(self.cache, VIDEO, kept)
        return SelfDrafter(self.draft, self.shape, self.borrowed, self.next_position, self.draft.vocab_size)

    def sees(self, told: Path, kept: list[int]) -> Seen:
        """The prompt but for all other video tokens, and what was told since, each where the target has it."""
        stays = torch.ones(len(PROMPT) + len(told), dtype=torch.bool)
        stays[VIDEO[[index for index in ALL if index not in kept]]] = False
        text = torch.tensor([*PROMPT.tolist(), *told])[stays]
        return Seen(tuple(text.tolist()), tuple(map(tuple, behind(self.positions, len(told))[:, stays].tolist())))


def play(target: Target, drafter: SelfDrafter, told: Path, max_depth: int, pick: int, bonus: int) -> Path:
    """One round by hand: the target goes to a node of the tree, and leaves it with a word that no draft would guess."""
    language, start = target.draft.language, len(target.draft.steps)
    expected = grow(
        target.shape, told[-1], max_depth, lambda path: language.logits(target.sees(told + path, target.kept))
    )
    tree = drafter.propose(told[-1], max_depth)
    assert tree == expected.tree
    fed = [seen for forward in target.draft.steps[start:] for seen in forward]
    branches = [target.sees(told + path, target.kept) for paths in expected.fed for path in paths]
    assert fed == branches
    positions = target.next_position + len(told) - 1 + torch.tensor([tree.depths])
    mask = torch.cat([torch.ones(len(tree), target.cache.length, dtype=torch.bool), tree.mask], dim=1)
    target.decoder.step(torch.tensor(tree.tokens), positions, mask, target.cache)
    verdict = Verdict((0, *branch(tree.parents, pick % len(tree))), language.vocabulary + bonus)
    target.cache.keep(verdict.path, len(tree))
    drafter.accept(verdict)
    return told + emitted(tree, verdict)


@given(
    shape_options,
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 99), st.integers(0, 3)), min_size=1, max_size=4),
    st.integers(1, 6),
    st.integers(0, 99),
    KEPT,
    st.sampled_from([1, 3]),
    st.none() | st.integers(0, 9),
)
def test_it_feeds_the_root_and_the_branches_and_they_see_all_but_the_tokens_that_were_left_out(
    options, rounds, vocabulary, seed, kept, rows, room
):
    """The answer's tokens come from the target's cache: not one is fed again."""
    target = Target(Language(vocabulary, seed), shape(options), kept, rows, room)
    target.decoder.prefill(embeds(PROMPT), target.positions, target.cache)
    drafter, told = target.drafter(), (0,)
    held = target.borrowed.extra_bytes
    for max_depth, pick, bonus in rounds:
        told = play(target, drafter, told, max_depth, pick, bonus)
        assert target.borrowed.extra_bytes == held


@given(
    options=shape_options,
    vocabulary=st.integers(1, 6),
    seed=st.integers(0, 999),
    kept=KEPT,
    rows=st.sampled_from([1, 3]),
    room=st.none() | st.integers(1, 9),
    max_new_tokens=st.integers(1, 15),
)
def test_the_answer_is_that_of_plain_decoding(options, vocabulary, seed, kept, rows, room, max_new_tokens):
    language, answer = Language(vocabulary, seed), ()
    target = Target(language, shape(options), kept, rows, room)
    while len(answer) < max_new_tokens:
        answer += (int(language.logits(target.sees(answer, ALL)).argmax()),)
    sequence = target.read(Stopping(max_new_tokens))
    for _ in decode(target.decoder, sequence, target.drafter()):
        pass
    assert tuple(sequence.tokens) == answer


@pytest.mark.parametrize("tree_shape", [PAPER_TREE, chain(5)], ids=["paper", "chain"])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("room", [None, 1])
def test_with_the_whole_video_five_of_five_are_accepted(tree_shape, rows, room):
    """And with less of it fewer, or this would show nothing."""
    accepted = {}
    for kept in (ALL, ALL[1:]):
        target = Target(Language(50, seed=3), tree_shape, kept, rows, room)
        sequence = target.read(Stopping(31))
        pieces = list(decode(target.decoder, sequence, target.drafter()))
        accepted[len(kept)] = [len(piece) for piece in pieces]
    assert accepted[len(ALL)] == [6] * 5
    assert len(accepted[len(ALL) - 1]) > 5


def test_only_words_below_the_given_size_are_proposed():
    """A checkpoint's vocabulary is padded with rows that stand for no word."""
    target = Target(Language(9, seed=8), PAPER_TREE, ALL)
    target.decoder.prefill(embeds(PROMPT), target.positions, target.cache)
    borrowed = BorrowedCache(target.cache, VIDEO, torch.tensor(ALL))
    for size, words in ((9, 9), (6, 6), (99, 9)):
        tree = SelfDrafter(target.draft, PAPER_TREE, borrowed, target.next_position, size).propose(0, 5)
        assert set(tree.tokens) == set(range(words))
        borrowed.reset()


def test_no_forward_where_no_guess_could_be_used():
    target = Target(Language(9), PAPER_TREE, ALL)
    target.decoder.prefill(embeds(PROMPT), target.positions, target.cache)
    drafter = target.drafter()
    assert drafter.propose(7, 0) == DraftTree((7,), (-1,))
    assert target.draft.steps == []
    assert drafter.max_nodes == 26


def broken(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, replacement) -> None:
    monkeypatch.setattr(owner, name, replacement)
    target = Target(Language(50, seed=3), PAPER_TREE, ALL)
    sequence = target.read(Stopping(31))
    assert any(len(piece) != 6 for piece in decode(target.decoder, sequence, target.drafter()))


def test_guesses_that_stay_behind_are_noticed(monkeypatch):
    broken(monkeypatch, BorrowedCache, "reset", lambda self: None)


def test_a_root_that_stands_still_is_noticed(monkeypatch):
    broken(monkeypatch, SelfDrafter, "accept", lambda self, verdict: self._cache.reset())
