"""Measuring rounds: what is timed, what is kept on disk under which facts, and what is left as it was."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import tiny
from engine.rounds.again import Output, run_again
from planning.rounds.told import costs as told_costs
from specvlm.answering.options import Options
from specvlm.answering.placing import place
from specvlm.answering.stage import Stage
from specvlm.engine.rounds.arena import Arena
from specvlm.engine.tree import DynamicTree
from specvlm.pipeline import SpecVLM
from specvlm.planning.rounds import measuring
from specvlm.planning.rounds.costs import RoundCosts

SHAPES = (DynamicTree(1, 2, 2), DynamicTree(3, 2, 6))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "specvlm" / "costs"


@pytest.fixture
def vlm() -> SpecVLM:
    target = tiny.model("llava_onevision")
    return tiny.pair(target, tiny.noised(target, 0.01))


@pytest.fixture
def stage(vlm: SpecVLM) -> Stage:
    made = place(vlm.pair, Options(rounds="device")).stage
    assert made is not None
    return made


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[RoundCosts]:
    """Each measurement: they take no time, and no two are alike."""
    made: list[RoundCosts] = []

    def measure(decoder: object, vocab_size: int, ready: object, *, captured: bool) -> tuple[RoundCosts, float]:
        made.append(told_costs(0.1 * (1 + len(made))))
        return made[-1], 1.0

    monkeypatch.setattr(measuring, "measure", measure)
    return made


def costs(vlm: SpecVLM, stage: Stage, **how: bool) -> RoundCosts:
    assert not isinstance(vlm.draft, (str, type(None)))
    return measuring.round_costs(vlm.target, vlm.draft, stage, **how)


def test_all_is_timed_and_nothing_left_behind(vlm: SpecVLM, stage: Stage, folder: Path):
    before, state = tiny.fingerprint(vlm.target.model), torch.get_rng_state()
    found, unrest = measuring.measure(vlm.target.decoder, vlm.target.vocab_size, stage, SHAPES, (8, 40))
    assert tiny.fingerprint(vlm.target.model) == before
    assert torch.equal(torch.get_rng_state(), state)
    assert [each.shape for each in found.rounds] == list(SHAPES)
    assert unrest >= 1
    few, many = (each.grow.at(20) for each in found.rounds)
    assert 0 < few < many  # one draft level, and three
    assert 0 < found.plain.at(20) < 60
    assert (found.captured, found.whole) == (False, False)
    assert not folder.exists()


def test_times_are_those_of_forwards_and_the_least_ones(vlm: SpecVLM, stage: Stage, monkeypatch: pytest.MonkeyPatch):
    """By a clock that moves with the rows and places of forwards alone, and now and then by much more."""
    clock, real = SimpleNamespace(now=0.0, forwards=0), vlm.target.decoder

    def charge(rows: int, places: int) -> None:
        clock.forwards += 1
        clock.now += (50 if clock.forwards % 11 == 0 else 1) * (0.1 * rows + 0.001 * places)

    def timed(step: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def step_at(tokens, positions, length, tail, cache):
            charge(len(tokens), int(length))
            return step(tokens, positions, length, tail, cache)

        return step_at

    def step(tokens, positions, mask, cache, **how):
        charge(len(tokens), cache.length)
        return real.step(tokens, positions, mask, cache, **how)

    plain = SimpleNamespace(vocab_size=real.vocab_size, new_cache=real.new_cache, prefill=real.prefill, step=step)
    monkeypatch.setattr(measuring, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    target, draft = (SimpleNamespace(step_at=timed(each.step_at)) for each in (stage.arena.target, stage.arena.draft))
    ready = SimpleNamespace(
        arena=Arena(target, draft),
        compile="none",
        target_cache=stage.target_cache,
        draft_cache=stage.draft_cache,
    )
    found, unrest = measuring.measure(plain, vlm.target.vocab_size, ready, SHAPES, (16, 48))
    assert unrest == pytest.approx(1.0)
    assert found.plain.at(30) == pytest.approx(0.1 + 0.03)
    one, three = found.rounds
    assert one.grow.at(30) == pytest.approx(0.2 + 0.03)  # the root, and a row that is of nothing
    assert one.settle.at(30) == pytest.approx(0.3 + 0.03)
    assert three.grow.at(30) == pytest.approx(0.2 + 2 * 0.2 + 3 * 0.03 + 2 * 0.001)  # behind the root from then on
    assert three.settle.at(30) == pytest.approx(0.7 + 0.03)


def test_where_rounds_are_captured_it_is_those_that_are_timed(vlm: SpecVLM, stage: Stage):
    counts = SimpleNamespace(captured=0, replayed=0)

    def capture(function: Callable[[], Output]) -> Callable[[], Output]:
        counts.captured += 1
        again = run_again(function)

        def replay() -> Output:
            counts.replayed += 1
            return again()

        return replay

    arena = Arena(stage.arena.target, stage.arena.draft, capture)
    ready = SimpleNamespace(
        arena=arena, compile="graphs", target_cache=stage.target_cache, draft_cache=stage.draft_cache
    )
    found, _ = measuring.measure(vlm.target.decoder, vlm.target.vocab_size, ready, SHAPES, (8, 400), captured=True)
    assert (found.captured, found.whole) == (True, True)
    assert counts.captured == 2 * 2 * len(SHAPES)  # two halves, behind two caches
    assert counts.replayed > 2 * counts.captured


def test_a_pair_is_measured_once(vlm: SpecVLM, stage: Stage, folder: Path, measured: list[RoundCosts]):
    first = costs(vlm, stage)
    assert costs(vlm, stage) == first == measured[0]
    assert len(list(folder.iterdir())) == len(measured) == 1
    assert RoundCosts.known(json.loads(json.dumps(asdict(first)))) == first


@pytest.mark.parametrize("what", ["compile", "captured", "draft", "envelopes", "fresh"])
def test_what_time_hangs_on_is_measured_anew(
    what: str, vlm: SpecVLM, stage: Stage, folder: Path, measured: list[RoundCosts], monkeypatch: pytest.MonkeyPatch
):
    first = costs(vlm, stage)
    if what == "compile":
        stage = replace(stage, compile="inductor")
    if what == "draft":
        vlm = tiny.pair(vlm.target.model, tiny.model("llava_onevision", layers=1))
    if what == "envelopes":
        monkeypatch.setattr(measuring, "ENVELOPES", measuring.ENVELOPES[1:])
    assert costs(vlm, stage, captured=what == "captured", fresh=what == "fresh") != first
    assert len(list(folder.iterdir())) == (1 if what == "fresh" else 2)


@pytest.mark.parametrize(
    "text", ["", "null", '{"costs": 3}', '{"costs": {"plain": {"base": 1, "per_place": 0}, "rounds": []}}']
)
def test_a_torn_file_is_written_anew(text: str, vlm: SpecVLM, stage: Stage, folder: Path, measured: list[RoundCosts]):
    costs(vlm, stage)
    (file,) = folder.iterdir()
    file.write_text(text)
    assert costs(vlm, stage) == costs(vlm, stage) == measured[1]


def test_what_was_measured_on_a_busy_machine_is_not_kept(
    vlm: SpecVLM, stage: Stage, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, "specvlm")  # no warning: without a logger Python would print it
    monkeypatch.setattr(measuring, "measure", lambda *_, **__: (told_costs(0.1), 2.0))
    assert costs(vlm, stage) == told_costs(0.1)
    assert not folder.exists()
    assert "busy" in caplog.text
