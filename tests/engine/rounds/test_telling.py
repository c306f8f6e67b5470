"""What the device is told before a round, and what it tells after it."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from specvlm.engine.rounds.envelope import Envelope
from specvlm.engine.rounds.report import Report
from specvlm.engine.rounds.state import NO_TOKEN, State
from specvlm.engine.tree import DraftTree

CPU = torch.device("cpu")


def test_a_state_begins_with_no_answer():
    state = State.on(CPU, 3)
    assert {each.name: getattr(state, each.name).tolist() for each in fields(state)} == {
        "target_length": [NO_TOKEN],
        "target_offset": [NO_TOKEN],
        "draft_length": [NO_TOKEN],
        "draft_offset": [NO_TOKEN],
        "waiting": [NO_TOKEN] * 2,
        "num_waiting": [NO_TOKEN],
        "eos_ids": [NO_TOKEN] * 3,
    }
    assert len(State.on(CPU, 0).eos_ids) == 1


def test_what_is_written_stays_where_it_is():
    """A captured round reads these very tensors."""
    state = State.on(CPU, 3)
    places = {each.name: getattr(state, each.name).data_ptr() for each in fields(state)}
    state.write(target_length=[7], waiting=[4, 5], eos_ids=[9])
    assert state.target_length.tolist() == [7]
    assert state.waiting.tolist() == [4, 5]
    assert state.eos_ids.tolist() == [9, NO_TOKEN, NO_TOKEN]
    state.write(eos_ids=[1, 2, 3], waiting=[6])
    assert state.eos_ids.tolist() == [1, 2, 3]
    assert state.waiting.tolist() == [6, NO_TOKEN]
    assert {each.name: getattr(state, each.name).data_ptr() for each in fields(state)} == places


def test_a_state_that_was_made_in_inference_mode_can_be_written_outside_of_it():
    with torch.inference_mode():
        state = State.on(CPU, 1)
    state.write(target_length=[1])
    state.target_length.add_(1)
    assert state.target_length.tolist() == [2]


def test_more_than_there_is_room_for_is_an_error():
    with pytest.raises(RuntimeError):
        State.on(CPU, 1).write(waiting=[1, 2, 3])


ENVELOPE = Envelope((1, 1, 1), (2, 1, 1), 3)
TREE = [5, 6, 7, 8], [0, 0, 1, 2]


@pytest.mark.parametrize(
    ("waiting", "unread"), [(1, ()), (2, (7,))], ids=["all accepted was read", "a leaf was accepted"]
)
def test_a_report_is_what_was_written(waiting, unread):
    numbers = [3, 1, waiting, *[6, 7, 2, 99], *[0, 1, 2, 4], *TREE[0], *TREE[1]]
    assert Report.read(numbers, ENVELOPE) == Report(
        DraftTree((5, 6, 7, 8), (-1, 0, 1, 2)), 3, (0, 1, 2), (6, 7, 2), ended=True, unread=unread
    )


def test_a_report_of_the_shortest_round():
    numbers = [1, 0, 1, *[4, 88, 88, 88], *[0, 4, 4, 4], *TREE[0], *TREE[1]]
    report = Report.read(numbers, ENVELOPE)
    assert (report.path, report.tokens, report.ended, report.unread) == ((0,), (4,), False, ())
