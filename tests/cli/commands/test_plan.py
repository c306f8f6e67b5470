"""specvlm plan: the costs that were measured, what a plan makes of them, and predictions that say what they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jaxtyping
import pytest

from specvlm.engine.tree import DynamicTree
from specvlm.planning import measuring
from specvlm.planning.costs import Costs
from specvlm.planning.prediction import RATES
from specvlm.planning.rounds import measuring as round_measuring
from specvlm.planning.rounds.costs import Line, RoundCosts, Timed


@pytest.fixture(autouse=True)
def measured(measures: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """No time is spent on measuring; how often it was is told."""
    made = []

    def measure(decoder: object) -> tuple[Costs, float]:
        made.append(None)
        return Costs((1, 64), (1.0 if len(made) % 2 else 0.1, 2.0), 1e-4, 0.0), 1.0

    monkeypatch.setattr(measuring, "measure", measure)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return made


@pytest.fixture
def models(pair: Path) -> list[object]:
    return ["--target", pair / "target", "--draft", pair / "draft", "--dtype", "float32"]


def test_what_is_measured_and_what_is_made_of_it(run: Callable, models: list, measured: list):
    result = run("plan", *models, "--video-tokens", 900)
    assert result.exit_code == 0
    assert "1.10 s" in result.stdout  # one row of the target behind 1,000 tokens
    assert "Assumed" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "…" not in result.stdout
    assert all(f"{rate:.2f}" in result.stdout for rate in RATES)
    once = len(measured)
    run("plan", *models)
    assert len(measured) == once
    run("plan", *models, "--fresh")
    assert len(measured) > once


def test_record_of_a_plan(run: Callable, models: list):
    result = run("plan", *models, "--json", "--new-tokens", 64)
    record = json.loads(result.stdout)
    assert "Assumed" in result.stderr
    assert record["forwards"][0].keys() == {"rows", "target_seconds", "draft_seconds"}
    assert [each["rate"] for each in record["plans"]] == list(RATES)
    assert record["plans"][0]["round"].keys() >= {"depth", "num_nodes", "tokens", "seconds", "speedup"}
    assert {"costs", "machine", "versions"} <= record.keys()


@pytest.mark.parametrize("draft", [[], ["--draft", "self"]], ids=["none", "self"])
def test_a_plan_is_for_a_target_with_a_draft(draft: list, run: Callable, pair: Path):
    result = run("plan", "--target", pair / "target", *draft)
    assert result.exit_code == (0 if draft else 2)
    assert ("--draft" in result.stderr) == (not draft)


def test_predictions_say_that_they_are_predictions(run: Callable, measured: list):
    result = run("plan", "--predict")
    assert result.exit_code == 0
    assert "PREDICTIONS" in result.stdout
    assert "None of this was measured by us" in result.stdout
    assert "Reported by others" in result.stdout
    assert all(name in result.stdout for name in ("H100", "L40S", "2.68 x", "2.11 x"))
    assert not measured
    record = json.loads(run("plan", "--predict", "--json").stdout)
    assert len(record["predictions"]) == 2 * 2 * len(RATES)


@pytest.fixture
def rounds_measured(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """No time is spent on measuring rounds either."""
    made = []

    def measure(decoder: object, vocab_size: int, ready: object, *, captured: bool) -> tuple[RoundCosts, float]:
        made.append(None)
        return RoundCosts(Line(1.0, 1e-4), (Timed(DynamicTree(2, 2, 4), Line(0.25, 0.0), Line(1.3, 1e-4)),)), 1.0

    monkeypatch.setattr(round_measuring, "measure", measure)
    return made


def test_where_rounds_are_the_devices_it_says_what_they_cost(run: Callable, models: list, rounds_measured: list):
    result = run("plan", *models, "--rounds", "device", "--video-tokens", 900)
    assert result.exit_code == 0
    (row,) = [line for line in result.stdout.splitlines() if "250.00 ms" in line]
    assert all(
        each in row for each in ("1.40 s", "1.65 s", "1.50 x")
    )  # behind 1,000 tokens, where a plain one is 1.1 s
    once = len(rounds_measured)
    record = json.loads(run("plan", *models, "--rounds", "device", "--json").stdout)
    assert record["rounds"]["rounds"][0]["shape"] == {"depth": 2, "width": 2, "num_nodes": 4}
    assert len(rounds_measured) == once == 1


def test_where_they_are_the_hosts_it_says_why(run: Callable, models: list, rounds_measured: list):
    record = json.loads(run("plan", *models, "--json").stdout)
    assert "rounds" not in record
    assert "cpu" in record["rounds_on_host_because"]
    assert not rounds_measured


def test_rounds_are_played_nowhere_else(run: Callable, models: list, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as users run it
    result = run("plan", *models, "--rounds", "everywhere")
    assert result.exit_code == 2
    assert "'everywhere' is not one of 'device', 'host'" in result.stderr
