"""Fixed trees: what may be asked for, the paper's tree, and growth by rank."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.trees import grow, path_lists, words
from specvlm.engine.tree import PAPER_TREE, DraftTree, TreeTemplate, chain

SEEDS = st.integers(0, 2**32)


def random_language(seed: int, vocabulary: int):
    """Logits after some words: random, but always the same for the same words."""

    def logits_after(path):
        return torch.randn(vocabulary, generator=torch.Generator().manual_seed(hash((seed, path)) % 2**63))

    return logits_after


def paths_of(template: TreeTemplate) -> list[tuple[int, ...]]:
    as_tree = DraftTree(template.ranks, template.parents)
    return [words(as_tree, node) for node in range(1, len(as_tree))]


@given(path_lists())
def test_a_template_holds_the_paths_it_was_built_from(paths):
    template = TreeTemplate.from_paths(paths)
    assert sorted(paths_of(template)) == sorted(set(paths))
    assert TreeTemplate.from_paths(list(reversed(paths))) == template
    assert TreeTemplate.from_paths(paths + paths) == template
    assert template.max_nodes == 1 + len(set(paths))


@pytest.mark.parametrize(
    ("paths", "complaint"),
    [
        ([], "at least one path"),
        ([()], "not \\(\\)"),
        ([(0,), ()], "not \\(\\)"),
        ([(-1,)], "not \\(-1,\\)"),
        ([(0, 1)], "not its parent \\(0,\\)"),
        ([(0,), (1, 0)], "not its parent \\(1,\\)"),
        ([(0,), (0, 1, 2)], "not its parent \\(0, 1\\)"),
    ],
)
def test_what_is_no_tree_is_refused(paths, complaint):
    with pytest.raises(ValueError, match=complaint):
        TreeTemplate.from_paths(paths)


def test_the_papers_tree_has_its_published_shape():
    depths = Counter(len(path) for path in paths_of(PAPER_TREE))
    assert dict(depths) == {1: 4, 2: 8, 3: 8, 4: 3, 5: 2}
    assert PAPER_TREE.max_nodes == 26
    assert len(grow(PAPER_TREE, 0, 5, random_language(0, 10)).fed) == 5


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_a_chain_is_one_branch(depth):
    grown = grow(chain(depth), 0, depth, random_language(1, 10))
    assert grown.tree.parents == tuple(range(-1, depth))
    assert [len(paths) for paths in grown.fed] == [1] * depth


@given(path_lists(), st.integers(0, 9))
def test_cutting_leaves_the_paths_that_are_short_enough(paths, depth):
    template = TreeTemplate.from_paths(paths)
    assert paths_of(template.cut(depth)) == [path for path in paths_of(template) if len(path) <= depth]


@given(path_lists(), SEEDS, st.integers(5, 9), st.integers(1, 9))
def test_each_node_is_its_parents_guess_of_that_rank(paths, seed, vocabulary, max_depth):
    """And the draft is asked about inner nodes alone, once each, one forward a level."""
    template = TreeTemplate.from_paths(paths)
    logits_after = random_language(seed, vocabulary)
    grown = grow(template, vocabulary, max_depth, logits_after)
    expected = {(): ()}
    for path in paths_of(template.cut(max_depth)):
        so_far = expected[path[:-1]]
        best = logits_after(so_far).argsort(descending=True).tolist()
        expected[path] = (*so_far, best[path[-1]])
    tree = grown.tree
    assert [words(tree, node) for node in range(len(tree))] == list(expected.values())
    assert grown.numbers == list(range(len(tree)))
    inner = {words(tree, parent) for parent in tree.parents[1:]}
    assert sorted(path for paths in grown.fed for path in paths) == sorted(inner)
    assert [{len(path) for path in paths} for paths in grown.fed] == [{depth} for depth in range(len(grown.fed))]


@given(path_lists(), SEEDS, st.integers(1, 4))
def test_a_rank_beyond_the_vocabulary_becomes_the_last_guess(paths, seed, vocabulary):
    template = TreeTemplate.from_paths(paths)
    logits_after = random_language(seed, vocabulary)
    tree = grow(template, vocabulary, 9, logits_after).tree
    for node in range(1, len(tree)):
        best = logits_after(words(tree, tree.parents[node])).argsort(descending=True).tolist()
        assert tree.tokens[node] == best[min(template.ranks[node], vocabulary - 1)]


def test_a_rank_beyond_all_numbers_takes_no_memory():
    """As many guesses as it would take to come to it would not fit."""
    template = TreeTemplate.from_paths([(0,), (10**30,)])
    tree = grow(template, 4, 9, random_language(1, 4)).tree
    assert len(tree) == 3
