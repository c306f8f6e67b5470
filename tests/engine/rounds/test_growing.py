"""Trees that are grown in tensors are the host's, token for token: what they hold, and what the draft has read."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine import trees
from engine.rounds.fakes import KINDS, Reading, Sayings, as_host, read_and_grow
from specvlm.engine.rounds import growing
from specvlm.engine.rounds.selection import Fixed, Likeliest, likeliest_first, selection
from specvlm.engine.tree import PAPER_TREE, DynamicTree, TreeShape, chain
from specvlm.planning.tree import PlannedTree

ROOT = 99
CPU = torch.device("cpu")


def grown(shape: TreeShape, vocabulary: int, sayings: Sayings) -> Reading:
    choice = selection(shape, vocabulary, CPU)
    assert choice is not None
    return read_and_grow(choice, ROOT, sayings)


@given(
    options=trees.shape_options,
    vocabulary=st.sampled_from([1, 2, 3, 50]),
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 9999),
    max_depth=st.integers(1, 6),
)
def test_a_tree_is_the_hosts_token_for_token(options, vocabulary, kind, seed, max_depth):
    """Among equals too, and where the draft says nothing that is a number."""
    shape, sayings = trees.shape(options), Sayings(kind, vocabulary, seed)
    host = trees.grow(shape, ROOT, max_depth, sayings)
    device = grown(shape.cut(max_depth), vocabulary, sayings)
    tree = device.tree
    assert as_host(tree) == host.tree
    assert tuple(tree.depths.tolist()) == host.tree.depths
    assert torch.equal(tree.mask, host.tree.mask)
    assert device.fed == [path for forward in host.fed[1:] for path in forward]
    read = [device.fed[fed] if fed >= 0 else None for fed in tree.fed.tolist()]
    assert all(path in (None, trees.words(host.tree, node)) for node, path in enumerate(read))
    if len(set(host.made)) == len(host.made):  # of siblings that say the same, words don't tell which one was read
        words = [trees.words(host.tree, node) for node in range(1, len(host.tree))]
        assert read[1:] == [path if path in device.fed else None for path in words]


@given(options=trees.shape_options, vocabulary=st.sampled_from([1, 2, 3, 50]))
def test_the_tensors_measure_what_the_envelope_says(options, vocabulary):
    shape, sayings = trees.shape(options), Sayings("random", vocabulary, 1)
    choice = selection(shape, vocabulary, CPU)
    reading = grown(shape, vocabulary, sayings)
    assert len(reading.tree.tokens) == 1 + choice.envelope.num_nodes <= shape.max_nodes
    assert len(reading.fed) == choice.envelope.num_fed
    assert int(reading.tree.depths.max()) <= choice.envelope.levels
    assert int(reading.tree.parents[0]) == 0
    assert int(reading.tree.fed[0]) == -1


@pytest.mark.parametrize("shape", [DynamicTree(5, 3, 9), PAPER_TREE, chain(4)])
def test_one_selection_grows_one_tree_after_the_other(shape):
    """Nothing of a tree is left in it."""
    choice = selection(shape, 50, CPU)
    for seed in (1, 2, 1):
        sayings = Sayings("random", 50, seed)
        assert as_host(read_and_grow(choice, ROOT, sayings).tree) == trees.grow(shape, ROOT, 9, sayings).tree


def test_the_likeliest_of_equals_are_the_oldest():
    values = torch.tensor([1.0, 2.0, 1.0, 2.0, float("-inf"), 2.0])
    assert likeliest_first(values, 2).tolist() == [1, 3]
    assert likeliest_first(values, 4).tolist() == [0, 1, 3, 5]
    assert likeliest_first(values, 6).tolist() == [0, 1, 2, 3, 4, 5]


def test_each_shape_has_its_selection_and_one_that_asks_the_host_has_none():
    assert isinstance(selection(DynamicTree(), 9, CPU), Likeliest)
    assert isinstance(selection(PAPER_TREE, 9, CPU), Fixed)
    assert selection(PlannedTree.__new__(PlannedTree), 9, CPU) is None


def test_a_frontier_that_takes_the_youngest_of_equals_would_be_noticed(monkeypatch):
    monkeypatch.setattr(
        "specvlm.engine.rounds.selection.likeliest_first",
        lambda values, count: (
            (len(values) - 1 - values.flip(0).sort(descending=True, stable=True).indices[:count]).sort().values
        ),
    )
    assert differences("coarse") > 0


def test_so_would_a_mask_that_has_lost_a_bit(monkeypatch):
    make = growing._tree

    def blind(*given):
        tree = make(*given)
        mask = tree.mask.clone()
        mask[-1, tree.parents[-1]] = False
        return dataclasses.replace(tree, mask=mask)

    monkeypatch.setattr(growing, "_tree", blind)
    assert differences("random") == 10


def differences(kind: str) -> int:
    found = 0
    for seed in range(10):
        sayings = Sayings(kind, 5, seed)
        host, device = trees.grow(DynamicTree(4, 3, 9), ROOT, 9, sayings), grown(DynamicTree(4, 3, 9), 5, sayings)
        found += as_host(device.tree) != host.tree or not torch.equal(device.tree.mask, host.tree.mask)
    return found


def test_unbroken_there_are_none():
    assert [differences(kind) for kind in KINDS] == [0] * len(KINDS)
