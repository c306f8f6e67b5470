"""verify(): for every small tree and every possible answer, the result is what the target alone would have said."""

from __future__ import annotations

import random
from itertools import product

import pytest

from engine.trees import Path, all_trees, emitted, words
from specvlm.engine.tree import DraftTree
from specvlm.engine.verification import verify

SMALL = [(4, 3), (5, 2)]
"""(nodes, vocabulary) of the trees that are gone through one by one."""


class Target:
    """A target that says one fixed thing, and something else wherever it finds itself astray."""

    def __init__(self, tree: DraftTree, answer: Path) -> None:
        self.tree, self.answer, self.asked = tree, answer, 0

    def choose(self, node: int, tokens: Path) -> int:
        assert words(self.tree, node) == tokens  # asked for the logits of the very words that were emitted
        assert len(tokens) == self.asked  # once per token, in order
        self.asked += 1
        return self.answer[len(tokens)]


def distinct(tree: DraftTree) -> bool:
    """Whether no two children of a node say the same. Of such twins `verify` follows one, and may miss the other's."""
    return len({words(tree, node) for node in range(len(tree))}) == len(tree)


def longest_match(tree: DraftTree, answer: Path) -> int:
    """How many tokens of the answer are in the tree, one under the other."""
    paths = [words(tree, node) for node in range(len(tree))]
    return max(len(path) for path in paths if answer[: len(path)] == path)


@pytest.mark.parametrize(("max_nodes", "vocabulary"), SMALL)
def test_it_emits_the_targets_own_words_as_far_as_the_tree_knows_them(max_nodes, vocabulary):
    for tree in all_trees(max_nodes, vocabulary):
        for answer in product(range(vocabulary), repeat=max(tree.depths) + 1):
            target = Target(tree, answer)
            verdict = verify(tree, target.choose)
            said = emitted(tree, verdict)
            assert said == answer[: len(said)]
            assert len(said) == target.asked == verdict.num_accepted + 1
            assert not distinct(tree) or verdict.num_accepted == longest_match(tree, answer)
            assert verdict.path[0] == 0
            assert all(
                tree.parents[child] == parent for parent, child in zip(verdict.path, verdict.path[1:], strict=False)
            )


@pytest.mark.parametrize(("max_nodes", "vocabulary"), SMALL)
def test_it_stops_in_the_middle_of_a_path_where_plain_decoding_stops(max_nodes, vocabulary):
    """Token 0 ends the answer: nothing is asked after it, and nothing behind it is emitted."""
    for tree in all_trees(max_nodes, vocabulary):
        for answer in product(range(vocabulary), repeat=max(tree.depths) + 1):
            target = Target(tree, answer)
            verdict = verify(tree, target.choose, stop=lambda tokens: tokens[-1] == 0)
            end = answer.index(0) + 1 if 0 in answer else len(answer)
            said = emitted(tree, verdict)
            assert said == answer[: len(said)]
            assert len(said) == target.asked <= end
            assert not distinct(tree) or len(said) == min(end, longest_match(tree, answer) + 1)


def test_a_limit_on_the_number_of_tokens_is_never_overshot():
    for tree in filter(distinct, all_trees(5, 2)):
        for limit in range(1, 6):
            for answer in product(range(2), repeat=max(tree.depths) + 1):
                verdict = verify(tree, Target(tree, answer).choose, stop=lambda tokens, most=limit: len(tokens) >= most)
                assert len(emitted(tree, verdict)) == min(limit, longest_match(tree, answer) + 1)


@pytest.mark.parametrize("seed", range(20))
def test_random_draws_are_taken_in_the_order_of_plain_decoding(seed):
    """A target that rolls dice for each token says the same, and leaves the dice in the same state."""

    def roll(dice: random.Random, tokens: Path) -> int:
        return dice.randrange(3) if sum(tokens) % 2 else dice.randrange(2)

    accepted = 0
    for tree in all_trees(4, 3):
        dice = random.Random(seed)
        verdict = verify(tree, lambda node, tokens, dice=dice: roll(dice, tokens))
        plain_dice, plain = random.Random(seed), ()
        while len(plain) <= verdict.num_accepted:
            plain = (*plain, roll(plain_dice, plain))
        assert emitted(tree, verdict) == plain
        assert dice.getstate() == plain_dice.getstate()
        accepted += verdict.num_accepted
    assert accepted > 0
