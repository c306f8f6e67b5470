"""Sequence: when an answer ends, and what the criteria get to see."""

from __future__ import annotations

import pytest
import torch

from specvlm.engine.caches.kv_cache import TreeCache
from specvlm.engine.sampling import Chooser
from specvlm.engine.sequence import Sequence, Stopping


def sequence(stopping: Stopping, tokens: tuple[int, ...] = ()) -> Sequence:
    made = Sequence(torch.tensor([8, 9]), 2, TreeCache(1, 9), Chooser(), stopping)
    if tokens:
        made.emit(tokens)
    return made


def test_history_is_prompt_answer_and_guess():
    assert sequence(Stopping(9), (1, 2)).history((3,)).tolist() == [8, 9, 1, 2, 3]


@pytest.mark.parametrize(
    ("more", "reason"), [((5,), None), ((5, 7), "eos"), ((5, 6), None), ((5, 6, 4), "stop"), ((5, 6, 5), "length")]
)
def test_an_answer_ends_with_an_end_token_a_criterion_or_its_length(more, reason):
    stopping = Stopping(5, frozenset({7}), lambda ids: ids[0, -1].item() == 4)
    assert sequence(stopping, (1, 2)).reason_to_stop(more) == reason


def test_an_end_token_at_the_last_place_is_an_end_not_a_cut():
    assert sequence(Stopping(3, frozenset({7})), (1, 2)).reason_to_stop((7,)) == "eos"
    assert sequence(Stopping(3, criterion=lambda ids: True), (1, 2)).reason_to_stop((7,)) == "stop"


def test_a_criterion_sees_prompt_and_answer_in_one_row():
    seen = []
    sequence(Stopping(9, criterion=lambda ids: seen.append(ids.tolist()) or False), (1, 2)).reason_to_stop((3, 4))
    assert seen[-1] == [[8, 9, 1, 2, 3, 4]]


def test_emitting_counts_down_and_asking_gives_the_reason_to_stop():
    made = sequence(Stopping(3))
    assert made.num_left == 3
    assert not made.ends_with((1, 2))
    made.emit((1, 2))
    assert (made.num_left, made.finish_reason) == (1, None)
    assert made.ends_with((3,))
    made.emit((3,))
    assert (made.num_left, made.finish_reason, made.tokens) == (0, "length", [1, 2, 3])
