"""Predictions: what a tree of one shape brings, by counting; and that no other tree would bring more."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planning.worlds import linear, machine
from specvlm.engine.tree import PAPER_TREE, DraftTree, TreeTemplate, chain
from specvlm.planning.costs import PairCosts
from specvlm.planning.prediction import best, chances, expected, likeliest, outlook
from specvlm.planning.prices import MAX_DEPTH, MAX_NODES, MAX_WIDTH

RATE = st.floats(0.05, 0.99)


@given(RATE)
def test_chances_are_of_one_guess_at_most(rate):
    each = chances(rate)
    assert each[0] == rate
    assert sum(each) < 1
    assert all(chance > 0 for chance in each)


@pytest.mark.parametrize(
    "tree", [PAPER_TREE, chain(3), TreeTemplate.from_paths([(0,), (1,), (1, 2)])], ids=["paper", "chain", "odd"]
)
@pytest.mark.parametrize("rate", [0.3, 0.8])
def test_tokens_of_a_round_are_those_that_are_counted(tree, rate):
    dice, right, rounds, emitted = random.Random(0), chances(rate), 20_000, 0
    children = {(tree.parents[node], tree.ranks[node]): node for node in range(1, len(tree.parents))}
    for _ in range(rounds):
        node: int | None = 0
        while node is not None:
            emitted += 1
            rank = dice.choices([*range(len(right)), -1], [*right, 1 - sum(right)])[0]
            node = children.get((node, rank))
    assert expected(tree, rate, machine(0.1), 9, 9).tokens == pytest.approx(emitted / rounds, rel=0.02)


def test_a_round_by_hand():
    """Two levels: the root, then both of its children are fed; 4 guesses and the root are verified."""
    costs = PairCosts(linear(1.0, 0.01), linear(0.1, 0.02))
    tree = TreeTemplate.from_paths([(0,), (1,), (0, 0), (1, 0)])
    found = expected(tree, 0.8, costs, 500, 50)
    assert (found.depth, found.num_nodes) == (2, 4)
    assert found.tokens == pytest.approx(1 + 0.8 + 0.1 + 0.64 + 0.08)
    assert found.seconds == pytest.approx(0.1 + 0.12 + 1.04)
    assert found.speedup == pytest.approx(found.tokens / found.seconds)
    assert expected(None, 0.8, costs, 500, 50).speedup == 1


@given(RATE, st.integers(1, MAX_DEPTH))
@settings(max_examples=30)
def test_likeliest_trees_grow_by_the_next_best_guess(rate, depth):
    trees = list(likeliest(rate, depth))
    assert [len(tree.parents) for tree in trees] == [*range(2, 2 + len(trees))]
    last, right = trees[-1], chances(rate)
    assert len(last.parents) <= 1 + MAX_NODES
    assert all(tree.parents == last.parents[: len(tree.parents)] for tree in trees)
    assert len(set(zip(last.parents, last.ranks, strict=True))) == len(last.parents)
    depths = DraftTree(last.ranks, last.parents).depths
    assert max(depths) <= depth
    inner = set(last.parents[1:])
    assert all(sum(depths[node] == level for node in inner) <= MAX_WIDTH for level in range(depth))
    values = [1.0]
    for parent, rank in zip(last.parents[1:], last.ranks[1:], strict=True):
        values.append(values[parent] * right[rank])
    assert values == sorted(values, reverse=True)


@given(st.floats(0.01, 1.0), st.floats(0.0, 0.1), RATE, st.integers(1, 8))
@settings(max_examples=30)
def test_no_other_tree_is_much_better_than_the_best(draft, per_row, rate, depth):
    """A tree that is less likely may be cheaper to draft, having fewer rows on a level; but not by much."""
    where = (machine(draft, per_row), 100, 100)
    found = best(rate, *where).speedup
    for tree in (None, chain(depth), PAPER_TREE, TreeTemplate.from_paths([(0,), (1,), (0, 0), (0, 1), (0, 0, 0)])):
        assert expected(tree, rate, *where).speedup <= 1.05 * found
    assert found >= expected(None, rate, *where).speedup


@pytest.mark.parametrize("draft", [0.02, 0.1, 0.4])
def test_better_guesses_and_cheaper_drafts_bring_more(draft):
    speeds = [best(rate, machine(draft), 100, 100).speedup for rate in (0.3, 0.5, 0.7, 0.9)]
    assert speeds == sorted(speeds)
    assert speeds[-1] > 1.5
    assert best(0.7, machine(draft / 2), 100, 100).speedup > speeds[2]


def test_a_draft_as_dear_as_the_target_is_left_alone():
    found = outlook(0.9, machine(1.2), 3100, 3000, 128)
    assert (found.round.depth, found.round.speedup, found.speedup_with_reading) == (0, 1, 1)


def test_a_prompt_that_costs_more_than_it_wins_is_left_alone():
    assert outlook(0.9, machine(0.3), 3100, 3000, 256).round.depth > 0
    assert outlook(0.9, machine(0.3), 3100, 3000, 3).round.depth == 0


def test_an_outlook_counts_the_drafts_prompt_and_a_ratio_that_is_worth_it():
    for num_tokens in (64, 1024):
        found = outlook(0.8, machine(0.1), 3100, 3000, num_tokens)
        assert 1 < found.speedup_with_reading < found.round.speedup
    short, long = (outlook(0.8, machine(0.1), 3100, 3000, length).pruning_ratio for length in (32, 8192))
    assert short > long
