"""A reading that arms share: done once a turn, counted to each, and no answer is another for it."""

from __future__ import annotations

from functools import lru_cache

import pytest

import tiny
from specvlm.answering.options import Options
from specvlm.comparing.compare import compare
from specvlm.engine.stats import Stats
from specvlm.families.decoder import HFDecoder
from specvlm.pipeline import SpecVLM
from specvlm.watching.shared_reading import READING, SharedReading

QUESTION, VIDEO = "what happens?", tiny.film(8, 1)
ARMS = ("loop", "sd", "specvlm", "prompt_lookup")
OURS = ("loop", "sd", "specvlm")
OPTIONS = Options(max_new_tokens=16, pruning_ratio=0.5, do_sample=False)


@lru_cache
def pair(family: str = "qwen2_5_vl") -> SpecVLM:
    target = tiny.model(family, layers=2)
    return tiny.pair(target, tiny.noised(target, 0.01))


@pytest.fixture
def read(monkeypatch) -> list[tuple[HFDecoder, int]]:
    """Every prefill of specvlm's own: whose, and of how many tokens."""
    seen, prefill = [], HFDecoder.prefill
    monkeypatch.setattr(
        HFDecoder, "prefill", lambda self, rows, *rest: seen.append((self, len(rows))) or prefill(self, rows, *rest)
    )
    return seen


def whole_prefills(read: list[tuple[HFDecoder, int]], vlm: SpecVLM, prompt_len: int) -> int:
    return read.count((vlm.target.decoder, prompt_len))


@pytest.mark.part(2)
@pytest.mark.parametrize("family", ["llava_onevision", "qwen2_5_vl"])
@pytest.mark.parametrize("pruner", ["frames", "verifier_guided"])
def test_answers_are_stock_generates_and_the_target_reads_once_a_turn(family, pruner, read):
    vlm = pair(family)
    options = Options.of(OPTIONS, {"pruner": pruner})
    found = compare(vlm, VIDEO, QUESTION, options, arms=OURS, repeats=2, warm_up=tiny.film(2, 1), share_reading=True)
    assert all(arm.identical for arm in found.arms)
    prompt_len = found.generations["loop"].stats.num_prompt_tokens
    assert whole_prefills(read, vlm, prompt_len) == 2
    assert {arm.arm: arm.mean_acceptance_length > 1 for arm in found.arms}["specvlm"]
    read.clear()
    compare(vlm, VIDEO, QUESTION, options, arms=OURS, repeats=2, warm_up=tiny.film(2, 1))
    assert whole_prefills(read, vlm, prompt_len) == 2 * len(OURS)


def test_each_arm_is_charged_for_the_reading():
    found = compare(pair(), VIDEO, QUESTION, OPTIONS, arms=ARMS, share_reading=True)
    stats = {arm: run[0].stats for arm, run in found.runs.items()}
    for arm in OURS:
        for name in READING:
            assert stats[arm].phases[name] >= 0.999 * stats["loop"].phases[name]
        assert stats[arm].total_seconds == pytest.approx(sum(stats[arm].phases.values()))
        assert stats[arm].ttft_seconds >= sum(stats["loop"].phases[name] for name in READING)
    assert stats["ar"].phases["prefill_target"] != stats["loop"].phases["prefill_target"]


def test_what_an_answer_took_itself_is_never_given_back(monkeypatch):
    reading, charged = SharedReading(VIDEO, OPTIONS), []
    charge = Stats.charge
    monkeypatch.setattr(
        Stats, "charge", lambda self, name, seconds: charged.append(seconds) or charge(self, name, seconds)
    )
    first = reading.ask(pair(), QUESTION, OPTIONS).stats
    assert charged == [0.0] * len(READING)
    reading.ask(pair(), QUESTION, OPTIONS)
    reading.ask(pair(), "what else happens in it, and when?", OPTIONS)
    assert all(seconds >= 0 for seconds in charged)
    assert 0 < sum(charged) <= 2 * sum(first.phases[name] for name in READING)
