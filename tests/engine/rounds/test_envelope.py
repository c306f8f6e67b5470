"""An envelope's numbers: how many rows a round has, whatever is in them."""

from __future__ import annotations

import pytest

from specvlm.engine.rounds.envelope import Envelope


def test_candidates_are_numbered_level_by_level():
    envelope = Envelope((1, 2, 3), (2, 4, 1), 5)
    assert envelope.levels == 3
    assert envelope.offsets == (0, 2, 10, 13)
    assert envelope.num_candidates == 13


def test_what_is_fed_stands_behind_the_root_level_by_level():
    assert Envelope((1, 2, 3), (2, 4, 1), 5).fed_offsets == (0, 2, 5)
    assert Envelope((1, 2, 3), (2, 4, 1), 5).num_fed == 5


def test_of_one_level_nothing_is_fed():
    envelope = Envelope((1,), (4,), 4)
    assert (envelope.levels, envelope.num_fed, envelope.num_candidates) == (1, 0, 4)


@pytest.mark.parametrize(("widths", "children"), [((), ()), ((2,), (1,)), ((1, 2), (2,)), ((1,), (2, 2))])
def test_a_tree_begins_with_its_root_and_every_level_has_children(widths, children):
    with pytest.raises(ValueError, match=r"begins with its root.*not Envelope\("):
        Envelope(widths, children, 1)


@pytest.mark.parametrize(
    ("widths", "children", "num_nodes"), [((1, 0), (1, 1), 1), ((1, 1), (1, 0), 1), ((1,), (1,), 0)]
)
def test_nothing_is_of_no_size(widths, children, num_nodes):
    with pytest.raises(ValueError, match="must be 1 or more"):
        Envelope(widths, children, num_nodes)
