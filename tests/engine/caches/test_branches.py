"""Who comes from whom: told from masks, and read level by level."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from specvlm.engine.caches.branches import Plan, ancestry, line, parents_seen
from specvlm.engine.tree import ancestor_mask

TREE = (-1, 0, 0, 1)


@st.composite
def trees(draw: st.DrawFn) -> tuple[int, ...]:
    """Parents before children, in any order of depth; several may hang from the kept state."""
    return tuple(draw(st.integers(-1, node - 1)) for node in range(draw(st.integers(1, 12))))


def plan(parents: tuple[int, ...], first: int = 0) -> Plan:
    return Plan.of(parents, first, (), torch.device("cpu"))


@given(trees(), st.data())
def test_a_mask_tells_who_comes_from_whom_in_one_forward_or_in_several(parents, data):
    """With columns for what was read before, or without those that all see."""
    mask = ancestor_mask(parents)
    cut = data.draw(st.integers(0, len(parents)))
    found = parents_seen((), cut, mask[:cut, :cut]) if cut else ()
    if cut < len(parents):
        kept = data.draw(st.integers(0, 3))
        wide = torch.cat([torch.ones(len(parents) - cut, kept, dtype=torch.bool), mask[cut:]], dim=1)
        found = parents_seen(found, len(parents) - cut, wide)
    assert found == parents


def test_without_a_mask_each_comes_from_the_one_before():
    assert parents_seen((), 3, None) == (-1, 0, 1)
    assert parents_seen((-1, 0, 0), 2, None) == (-1, 0, 0, 2, 3)


def test_what_all_see_needs_no_column():
    assert parents_seen((-1, 0), 2, ancestor_mask((-1, -1))) == (-1, 0, 1, 1)


@pytest.mark.parametrize(
    ("before", "rows"),
    [
        ((), [[1, 0], [0, 0]]),  # not even itself
        ((), [[1, 1], [1, 1]]),  # what comes after
        ((), [[1, 0, 0], [1, 1, 0], [0, 1, 1]]),  # its parent and not its grandparent
        ((-1, 0, 0), [[1, 1, 1, 1]]),  # two branches at once
        ((), [[0, 1]]),  # not what is folded
    ],
)
def test_what_is_no_branch_is_refused(before, rows):
    with pytest.raises(ValueError, match=r"no branch|hides positions"):
        parents_seen(before, len(rows), torch.tensor(rows, dtype=torch.bool))


@given(trees())
def test_every_node_is_read_once_and_behind_its_parent(parents):
    read: list[int] = []
    for level in plan(parents).levels:
        assert all(parents[node] in [*read, -1] for node in level.rows.tolist())
        read += level.rows.tolist()
    assert sorted(read) == list(range(len(parents)))


@given(trees(), st.data())
def test_states_are_handed_from_parent_to_child(parents, data):
    """Here a node's state is the list of its ancestors, as a number."""
    first = data.draw(st.integers(0, len(parents) - 1))
    made = plan(parents, first)
    known = {-1: 1.0}
    for node in range(first):
        known[node] = known[parents[node]] * 2 + node
    states = torch.tensor([known[node] for node in made.roots])[:, None]
    outputs = []
    for level in made.levels:
        states = level.inherit(states) * 2 + (level.rows + first)[:, None]
        outputs.append(states)
    together = torch.cat(outputs)[:, 0]
    together = together if made.order is None else together[made.order]
    for node in range(first, len(parents)):
        known[node] = known[parents[node]] * 2 + node
    assert together.tolist() == [known[node] for node in range(first, len(parents))]


def test_a_line_goes_up_the_branch_and_on_into_what_was_kept():
    assert list(line(TREE, 3, 6)) == [3, 1, 0, -1, -2, -3]
    assert list(line(TREE, -1, 2)) == [-1, -2]
    assert ancestry(TREE, 3) == [0, 1, 3]
    assert ancestry(TREE, -1) == []


def test_windows_end_with_the_node_itself():
    """Three columns are kept, behind them one for each node."""
    assert plan(TREE).windows(3).tolist() == [[0, 1, 2, 3], [1, 2, 3, 4], [1, 2, 3, 5], [2, 3, 4, 6]]
    assert plan(TREE, 3).windows(3).tolist() == [[2, 3, 4, 6]]


def test_nothing_is_copied_where_branches_dont_part():
    states = torch.rand(1, 2)
    chain = plan((-1, 0, 1))
    assert all(level.inherit(states) is states for level in chain.levels)
    forked = plan((-1, 0, 0)).levels[1].inherit(states)
    assert forked.data_ptr() == states.data_ptr()
    assert chain.order is None
