"""Stats: what is counted, and whose time is whose."""

from __future__ import annotations

import sys
import time

import pytest
import torch

from specvlm.engine.stats import PHASES, Round, Stats, peak_memory_bytes, reset_peak_memory
from specvlm.engine.tree import DraftTree


def a_round(num_drafted: int, num_accepted: int, num_draft_forwards: int = 0) -> Round:
    """A chain of guesses, of which the first ones were right."""
    tree = DraftTree(tuple(range(1 + num_drafted)), tuple(range(-1, num_drafted)))
    return Round(tree, tuple(range(1 + num_accepted)), 7, num_draft_forwards)


def test_acceptance_is_counted_by_depth_and_the_bonus_counts_as_emitted():
    stats = Stats()
    for num_accepted in (3, 0, 1):
        stats.add_round(a_round(25, num_accepted, 5))
    stats.finish(1 + 3 + 4)  # the prompt's own token, three bonus tokens, four accepted ones
    assert stats.accepted_per_depth == [2, 1, 1]
    assert (stats.num_rounds, stats.num_drafted, stats.num_accepted, stats.num_draft_forwards) == (3, 75, 4, 15)
    assert stats.acceptance_rate == 4 / 75
    assert stats.mean_acceptance_length == 7 / 3


def test_plain_decoding_has_a_mean_acceptance_length_of_one():
    stats = Stats()
    for _ in range(5):
        stats.add_round(a_round(0, 0))
    stats.finish(6)
    assert stats.mean_acceptance_length == 1.0
    assert stats.acceptance_rate is None


@pytest.mark.parametrize("num_tokens", [0, 1])
def test_an_answer_without_a_round_has_figures_too(num_tokens):
    stats = Stats()
    stats.finish(num_tokens)
    assert (stats.mean_acceptance_length, stats.acceptance_rate) == (1.0, None)
    assert (stats.tokens_per_second, stats.decode_seconds) == (0.0, 0.0)


def test_phases_add_up_to_the_total():
    stats = Stats()
    for name in ("draft", "verify", "draft"):
        with stats.phase(name):
            time.sleep(0.002)
    stats.first_token()
    stats.decode_begins()
    time.sleep(0.002)
    stats.finish(3)
    assert set(stats.phases) == {"draft", "verify", "other"} <= set(PHASES)
    assert stats.phases["draft"] >= 0.004
    assert sum(stats.phases.values()) == pytest.approx(stats.total_seconds)
    assert 0 < stats.ttft_seconds < stats.total_seconds
    assert 0.002 <= stats.decode_seconds < stats.total_seconds
    assert stats.tokens_per_second == 2 / stats.decode_seconds


def test_time_can_be_charged_to_another_phase_and_a_failed_one_still_counts():
    stats = Stats()
    with pytest.raises(RuntimeError), stats.phase("prefill_target"):
        raise RuntimeError
    stats.phases["prefill_target"] = 3.0
    stats.move("prefill_target", "scoring", 1.0)
    assert stats.phases == {"prefill_target": 2.0, "scoring": 1.0}


def test_work_that_was_done_before_the_clock_started_can_be_added():
    stats = Stats()
    stats.first_token()
    stats.finish(1)
    ttft, total = stats.ttft_seconds, stats.total_seconds
    stats.charge("decode_video", 2.0)
    assert (stats.ttft_seconds, stats.total_seconds) == (ttft + 2.0, total + 2.0)
    assert stats.phases["decode_video"] == 2.0
    assert sum(stats.phases.values()) == pytest.approx(stats.total_seconds)


def test_peak_memory_is_plausible_and_where_the_system_can_it_is_forgotten(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    ballast = bytearray(64 << 20)
    peak = peak_memory_bytes()
    assert 64 << 20 < peak < 1 << 40
    del ballast
    reset_peak_memory()
    assert peak_memory_bytes() <= peak - (48 << 20 if sys.platform == "linux" else 0)
