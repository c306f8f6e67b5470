"""specvlm plan: the costs that were measured, what a plan makes of them, and predictions that say what they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from specvlm.planning import measuring
from specvlm.planning.costs import Costs
from specvlm.planning.prediction import RATES


@pytest.fixture(autouse=True)
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[None]:
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
