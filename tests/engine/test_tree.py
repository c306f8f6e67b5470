"""DraftTree: what a tree means, against slow definitions, for every small tree."""

from __future__ import annotations

import pytest
import torch

from engine.trees import all_parents, all_trees, branch
from specvlm.engine.literals import flags, longs
from specvlm.engine.tree import DraftTree, ancestor_mask

EVERY = [parents for num_nodes in range(1, 7) for parents in all_parents(num_nodes)]


@pytest.mark.parametrize("parents", EVERY, ids=str)
def test_depth_is_the_number_of_steps_to_the_root(parents):
    tree = DraftTree(tuple(range(len(parents))), parents)
    assert tree.depths == tuple(len(branch(parents, node)) for node in range(len(parents)))
    assert len(tree) == len(parents)


@pytest.mark.parametrize("parents", EVERY, ids=str)
def test_a_node_sees_itself_its_ancestors_and_nothing_else(parents):
    mask = DraftTree(tuple(range(len(parents))), parents).mask
    assert mask.dtype == torch.bool
    assert mask.tolist() == [
        [other in (0, *branch(parents, node)) for other in range(len(parents))] for node in range(len(parents))
    ]


def test_numbers_become_a_tensor_as_they_are():
    numbers = [0, 5, -1, 2**40]
    assert torch.equal(longs(numbers), torch.tensor(numbers))
    assert torch.equal(longs([numbers]), torch.tensor([numbers]))
    assert longs([]).tolist() == []
    assert longs([7]).dtype == torch.int64


@pytest.mark.parametrize("parents", EVERY, ids=str)
def test_branches_as_bits_grow_a_node_at_a_time(parents):
    """And some nodes of a tree, in their order, see what their rows of its mask say, up to the last of them."""
    branches: list[int] = []
    for node, parent in enumerate(parents):
        branches.append(1 << node | (branches[parent] if node else 0))
    for first in range(len(parents)):
        assert torch.equal(flags(tuple(branches[first:])), ancestor_mask(parents)[first:])
        assert torch.equal(flags((branches[first],)), ancestor_mask(parents)[first : first + 1, : first + 1])


def test_children_are_found_by_their_token():
    for tree in all_trees(4, 3):
        children = tree.children()
        alike = {(tree.parents[child], tree.tokens[child]): child for child in range(1, len(tree))}  # the later one
        assert {place: child for place, child in children.items() if child} == alike


def test_trees_of_one_shape_share_their_mask_whatever_their_tokens():
    parents = (-1, 0, 0, 1)
    assert DraftTree((5, 6, 7, 8), parents).mask is DraftTree((1, 2, 3, 4), parents).mask is ancestor_mask(parents)
