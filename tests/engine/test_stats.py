"""Stats: what is counted, and whose time is whose."""

from __future__ import annotations

import sys
import time

import pytest
import torch

from specvlm.engine.stats import (
    PHASES,
    Round,
    Stats,
    peak_memory_bytes,
    reset_peak_memory,
    synchronize,
    timing_phases,
)
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


CPU, GPU, OTHER = torch.device("cpu"), torch.device("cuda:0"), torch.device("cuda:1")


def lived(stats: Stats) -> Stats:
    """An answer from its first phase to its last token."""
    with stats.phase("prefill_target"):
        pass
    stats.first_token()
    with stats.phase("prefill_draft"):
        pass
    stats.decode_begins()
    for _ in range(5):
        for name in ("draft", "verify", "draft"):
            with stats.phase(name):
                pass
    stats.move("prefill_target", "scoring", 0.0)
    return stats


class Waits(list):
    """What was waited for, each time."""

    def __call__(self, devices: tuple[torch.device, ...]) -> None:
        self.append(devices)


def test_a_gpu_is_waited_for_where_the_times_end_and_nowhere_else():
    waits = Waits()
    stats = lived(Stats((CPU, GPU, OTHER), wait=waits))
    assert waits == [(GPU, OTHER)] * 2
    stats.now()  # what `finish` begins with; it asks torch for memory next
    assert len(waits) == 3
    assert stats.phases == {}
    stats.charge("decode_video", 2.0)
    assert stats.phases == {}
    assert stats.total_seconds == 2.0


def test_whoever_asks_for_phases_has_the_gpu_waited_for_after_each():
    waits = Waits()
    with timing_phases():
        stats = Stats((GPU,), wait=waits)
    lived(stats)  # asked for when the answer began
    assert waits == [(GPU,)] * (2 + 2 + 15)
    assert stats.phases.keys() == {"prefill_target", "prefill_draft", "draft", "verify", "scoring"}
    assert lived(Stats((GPU,), wait=waits)).phases == {}


def test_on_a_cpu_phases_cost_nothing_and_stay():
    waits = Waits()
    stats = lived(Stats((CPU,), wait=waits))
    stats.finish(6)
    assert waits == []
    assert stats.devices == ()
    assert {"draft", "verify", "other"} <= stats.phases.keys()


def test_nothing_is_waited_for_but_gpus():
    synchronize((CPU, torch.device("meta")))  # torch would refuse both


def test_peak_memory_is_plausible_and_where_the_system_can_it_is_forgotten():
    ballast = bytearray(64 << 20)
    peak = peak_memory_bytes()
    assert 64 << 20 < peak < 1 << 40
    del ballast
    reset_peak_memory()
    assert peak_memory_bytes() <= peak - (48 << 20 if sys.platform == "linux" else 0)


def test_whose_memory_it_is_hangs_on_where_the_models_are():
    """On a machine with two GPUs, of which one is used, or none."""
    held, forgotten = {GPU: 5, OTHER: 7}, []
    assert peak_memory_bytes((CPU, GPU), held=held.__getitem__) == 5
    assert peak_memory_bytes((GPU, OTHER), held=held.__getitem__) == 12
    assert peak_memory_bytes((CPU,), held=held.__getitem__) > 1 << 20
    reset_peak_memory((CPU, OTHER), forget=forgotten.append)
    assert forgotten == [OTHER]
