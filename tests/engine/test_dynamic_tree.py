"""Dynamic trees: connected, within their limits, and the best nodes of all that were made."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.trees import Path, dynamic_trees, grow, words
from specvlm.engine.tree import DynamicTree

SEEDS = st.integers(0, 2**32)


def language(seed: int, vocabulary: int, levels: int | None = None):
    """Log-probabilities after some words; with `levels` the logits are whole numbers below it, so that ties abound."""

    def log_probs_after(path: Path) -> torch.Tensor:
        generator = torch.Generator().manual_seed(hash((seed, path)) % 2**63)
        if levels is None:
            return torch.randn(vocabulary, generator=generator).log_softmax(-1)
        return torch.randint(0, levels, (vocabulary,), generator=generator).float().log_softmax(-1)

    return log_probs_after


def log_prob(log_probs_after, path: Path) -> float:
    return sum(float(log_probs_after(path[:i])[token]) for i, token in enumerate(path))


def candidates(shape: DynamicTree, max_depth: int, log_probs_after) -> list[Path]:
    """All that EAGLE-2 looks at, by its definition: at each level the best `width` nodes get `width` children each."""
    found, frontier = [], [()]
    for _ in range(min(shape.depth, max_depth)):
        level = []
        for path in frontier:
            best = log_probs_after(path).topk(min(shape.width, len(log_probs_after(path)))).indices.tolist()
            level += [(*path, token) for token in best]
        frontier = sorted(level, key=lambda path: -log_prob(log_probs_after, path))[: shape.width]
        found += level
    return found


@given(dynamic_trees, SEEDS, st.integers(1, 6), st.integers(1, 5))
def test_the_best_nodes_of_all_that_were_made_stay(options, seed, vocabulary, max_depth):
    shape = DynamicTree(**options)
    log_probs_after = language(seed, vocabulary)
    tree = grow(shape, vocabulary, max_depth, log_probs_after).tree
    by_likelihood = sorted(
        candidates(shape, max_depth, log_probs_after), key=lambda path: -log_prob(log_probs_after, path)
    )
    assert {words(tree, node) for node in range(1, len(tree))} == set(by_likelihood[: shape.num_nodes])


@given(SEEDS, st.integers(1, 3), st.integers(1, 3), st.integers(1, 45))
def test_wide_enough_they_are_the_best_of_the_full_expansion(seed, vocabulary, depth, num_nodes):
    """With nothing cut on the way, they are the likeliest of all V + V² + ... words there are."""
    log_probs_after = language(seed, vocabulary)
    shape = DynamicTree(depth=depth, width=vocabulary**depth, num_nodes=num_nodes)
    tree = grow(shape, vocabulary, depth, log_probs_after).tree
    paths: list[Path] = [()]
    for path in paths:
        if len(path) < depth:
            paths += [(*path, token) for token in range(vocabulary)]
    best = sorted(paths[1:], key=lambda path: -log_prob(log_probs_after, path))[:num_nodes]
    assert {words(tree, node) for node in range(1, len(tree))} == set(best)


@given(dynamic_trees, SEEDS, st.integers(1, 6), st.integers(1, 5), st.integers(1, 3))
def test_ties_never_cost_a_parent_a_limit_or_a_likelier_node(options, seed, vocabulary, max_depth, levels):
    shape = DynamicTree(**options)
    log_probs_after = language(seed, vocabulary, levels)
    grown = grow(shape, vocabulary, max_depth, log_probs_after)
    tree = grown.tree
    assert all(parent < node for node, parent in enumerate(tree.parents))
    assert len(tree) == 1 + min(shape.num_nodes, len(grown.made) - 1) <= shape.max_nodes
    assert max(tree.depths) <= min(shape.depth, max_depth)
    kept = {words(tree, node) for node in range(1, len(tree))}
    assert len(kept) == len(tree) - 1  # no two nodes say the same
    assert [words(tree, node) for node in range(len(tree))] == [grown.made[number] for number in grown.numbers]
    dropped = set(grown.made[1:]) - kept
    least = min(log_prob(log_probs_after, path) for path in kept)
    assert all(log_prob(log_probs_after, path) <= least + 1e-5 for path in dropped)


@given(dynamic_trees, SEEDS, st.integers(1, 6), st.integers(1, 5))
def test_one_forward_a_level_of_at_most_width_nodes_and_none_for_the_last(options, seed, vocabulary, max_depth):
    shape = DynamicTree(**options)
    fed = grow(shape, vocabulary, max_depth, language(seed, vocabulary)).fed
    assert len(fed) == min(shape.depth, max_depth)
    assert fed[0] == [()]
    for depth, paths in enumerate(fed):
        assert all(len(path) == depth for path in paths)
        assert len(paths) <= shape.width
    every = [path for paths in fed for path in paths]
    assert len(set(every)) == len(every)
    assert all(path[:-1] in every for path in every)  # a node is fed only if its parent was


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@given(options=dynamic_trees, seed=SEEDS)
def test_a_draft_that_talks_nonsense_still_makes_a_tree(bad, options, seed):
    """An overflow in a half-precision draft may slow an answer down, never break it."""
    shape = DynamicTree(**options)
    log_probs_after = language(seed, 5)

    def broken(path: Path) -> torch.Tensor:
        logits = log_probs_after(path).clone()
        generator = torch.Generator().manual_seed(hash((seed, path)) % 2**63)
        logits[torch.rand(5, generator=generator) < 0.3] = bad
        return logits

    tree = grow(shape, 5, 4, broken).tree
    assert all(parent < node for node, parent in enumerate(tree.parents))
    assert len(tree) <= shape.max_nodes


@pytest.mark.parametrize("option", ["depth", "width", "num_nodes"])
@pytest.mark.parametrize("value", [0, -1])
def test_a_limit_below_one_is_refused(option, value):
    with pytest.raises(ValueError, match=f"{option} .* not {value}"):
        DynamicTree(**{option: value})
