"""Measuring: what is timed, what is kept on disk under which facts, and what is left as it was."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
import torch

import tiny
from specvlm.engine.stats import Stats
from specvlm.families import Family
from specvlm.pipeline import SpecVLM
from specvlm.planning import disk, measuring
from specvlm.planning.costs import Costs


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "specvlm" / "costs"


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Costs]:
    """Each measurement: they take no time, and no two are alike."""
    made: list[Costs] = []

    def measure(decoder: object) -> tuple[Costs, float]:
        made.append(Costs((1, 2), (float(1 + len(made)), 100.0), 0.5, 0.25))
        return made[-1], 1.0

    monkeypatch.setattr(measuring, "measure", measure)
    return made


def family(dtype: torch.dtype = torch.float32, **sizes: int) -> Family:
    return tiny.family(tiny.model("llava_onevision", dtype=dtype, **sizes))


class Clock:
    """Each forward takes what `seconds(rows, cached)` says, and every so-and-so-many-th one much longer."""

    def __init__(self, decoder: object, seconds: Callable[[int, int], float], disturbed: int) -> None:
        self.now, self._real, self._seconds, self._disturbed, self.forwards = 0.0, decoder, seconds, disturbed, 0
        self.vocab_size, self.new_cache, self.prefill = decoder.vocab_size, decoder.new_cache, decoder.prefill

    def step(self, tokens, positions, mask, cache):
        self.forwards += 1
        assert (mask is None) == (len(tokens) == 1)
        assert mask is None or (mask.shape == (len(tokens), len(tokens)) and mask.diagonal().all())
        busy = 50.0 if self.forwards % self._disturbed == 0 else 1.0
        self.now += busy * self._seconds(len(tokens), cache.length)
        return self._real.step(tokens, positions, mask, cache)

    def perf_counter(self) -> float:
        return self.now


@pytest.mark.parametrize("disturbed", [10**9, 7])
def test_what_forwards_take_is_found_whatever_disturbs_some_of_them(disturbed, monkeypatch):
    def seconds(rows: int, cached: int) -> float:
        return 0.02 + 0.001 * rows + cached * (3e-6 + 1e-8 * rows)

    clock = Clock(family().decoder, seconds, disturbed)
    monkeypatch.setattr(measuring, "time", clock)
    costs, unrest = measuring.measure(clock, (1, 2, 8, 32), (16, 48))
    for rows in (1, 2, 5, 32):
        assert costs.forward(rows, 30) == pytest.approx(seconds(rows, 30), rel=1e-6)
    assert unrest == pytest.approx(1.0)


def test_slow_forwards_are_not_repeated_for_long(monkeypatch):
    clock = Clock(family().decoder, lambda rows, cached: 4.0, 10**9)
    monkeypatch.setattr(measuring, "time", clock)
    measuring.measure(clock, (1, 2, 8, 32), (16, 48))
    assert clock.now <= 2 * (2 * measuring.MOST_SECONDS)


def test_measuring_leaves_no_trace_but_the_file(folder):
    """Neither in the model nor in the global random state, from which sampled answers are drawn."""
    one = family()
    before, state = tiny.fingerprint(one.model), torch.get_rng_state()
    costs, _ = measuring.measure(one.decoder, (1, 2, 4), (8, 32))
    assert tiny.fingerprint(one.model) == before
    assert torch.equal(torch.get_rng_state(), state)
    assert 0 < costs.forward(1, 0) < 60
    assert not folder.exists()


def test_a_machine_is_measured_once(folder, measured, caplog):
    with caplog.at_level(logging.INFO, "specvlm"):
        first = measuring.costs(family())
        assert measuring.costs(family()) == first
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "once" in caplog.text
    assert len(list(folder.iterdir())) == len(measured) == 1


@pytest.mark.parametrize("what", ["dtype", "config", "threads", "fresh"])
def test_what_time_hangs_on_is_measured_anew(what, folder, measured, monkeypatch):
    first = measuring.costs(family())
    if what == "threads":
        monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    other = {"dtype": {"dtype": torch.bfloat16}, "config": {"layers": 2}}.get(what, {})
    assert measuring.costs(family(**other), fresh=what == "fresh") != first
    assert len(list(folder.iterdir())) == (1 if what == "fresh" else 2)
    if what == "fresh":
        assert measuring.costs(family()) == measured[1]


def test_other_weights_cost_the_same(folder, measured):
    assert measuring.costs(tiny.family(tiny.model("llava_onevision", 1))) == measuring.costs(
        tiny.family(tiny.model("llava_onevision", 2))
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"costs": 3}',
        '{"costs": {"rows": [1]}}',
        '{"costs": {"rows": [2, 1], "base": [1, 2], "per_token": 0, "per_pair": 0}}',
        '{"costs": {"rows": ["1", "2"], "base": [1, 2], "per_token": 0, "per_pair": 0}}',
        '{"costs": {"rows": [1, 2], "base": [1, null], "per_token": 0, "per_pair": 0}}',
        "\udcff",
    ],
)
def test_a_torn_file_is_written_anew(text, folder, measured):
    measuring.costs(family())
    (file,) = folder.iterdir()
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert measuring.costs(family()) == measured[1]
    assert measuring.costs(family()) == measured[1]
    assert json.loads(file.read_text())["facts"]["dtype"] == "torch.float32"


@pytest.mark.parametrize("where", ["a file", "~", None])
def test_where_nothing_can_be_kept_it_is_measured_each_time(where, tmp_path, measured, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if where == "a file":
        (tmp_path / where).write_text("")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / where))
    else:  # a user without a home, as older and newer platformdirs tell of it
        monkeypatch.setattr(disk, "user_cache_path", lambda name, appauthor: Path(where, name) if where else no_home())
    assert measuring.costs(family()) == measured[0]
    assert measuring.costs(family()) == measured[1]
    assert [path.name for path in tmp_path.iterdir()] == (["a file"] if where == "a file" else [])


def no_home() -> NoReturn:
    raise RuntimeError("could not determine the home directory")


def test_it_is_kept_where_it_always_was(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert disk.folder() == tmp_path / "specvlm" / "costs"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    caches = "Library/Caches" if sys.platform == "darwin" else ".cache"
    assert disk.folder() == tmp_path / caches / "specvlm" / "costs"


def test_what_was_measured_on_a_busy_machine_is_not_kept(folder, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "specvlm")  # no warning: without a logger Python would print it
    rough = Costs((1, 2), (1.0, 2.0), 0.0, 0.0)
    monkeypatch.setattr(measuring, "measure", lambda decoder: (rough, 2.0))
    assert measuring.costs(family()) == rough
    assert not folder.exists()
    assert "busy" in caplog.text


@pytest.fixture
def vlm() -> SpecVLM:
    target = tiny.llava_model(0, dtype=torch.float64)
    return tiny.llava_pair(target, tiny.noised(target, 0.01))


def test_both_models_are_measured_and_a_target_alone_once(folder, measured, vlm):
    costs = measuring.pair_costs(vlm.target, vlm.draft)
    assert (costs.draft_reads, len(measured)) == (True, 1)  # they are alike but for their weights
    alone = measuring.pair_costs(vlm.target, "self")
    assert (alone.target, alone.draft, alone.draft_reads) == (costs.target, costs.target, False)


@pytest.mark.parametrize("ask", ["generate", "watch"])
@pytest.mark.parametrize("plan", ["fixed", "auto"])
def test_the_clock_of_an_answer_starts_when_all_is_measured(plan, ask, folder, vlm, monkeypatch):
    events = []

    def measure(decoder: object) -> tuple[Costs, float]:
        events.append("measured")
        return Costs((1, 2), (1.0, 2.0), 0.0, 0.0), 1.0

    monkeypatch.setattr(measuring, "measure", measure)
    monkeypatch.setattr("specvlm.answering.request.Stats", lambda devices: events.append("clock") or Stats(devices))
    how = {"plan": plan, "max_new_tokens": 2}
    for pair in (vlm, vlm.without_draft()):
        if ask == "watch":
            pair.watch(None, **how).ask("what happens?")
        else:
            pair.generate(None, "what happens?", **how)
    assert events == [*["measured"] * (plan == "auto"), "clock", "clock"]
