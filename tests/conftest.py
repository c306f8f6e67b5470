"""What every test shares. The hook that checks shape annotations is switched on in pyproject.toml."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings

# No test may need the network. huggingface_hub reads this when it is imported, so it stands before any test.
os.environ["HF_HUB_OFFLINE"] = "1"

# What the plan measures is kept on disk: no test may find it there, or leave it in anybody's home.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="specvlm-tests-")
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

# A first forward is slow and a shared machine is slower: a deadline per example would fail at random.
settings.register_profile("specvlm", deadline=None)
settings.load_profile("specvlm")


REAL: dict[tuple[Any, str], Any] = {}
"""What measures this machine and listens to its clock, by where it stands."""


@pytest.hookimpl(tryfirst=True)  # before -m is looked at
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a grid that is marked `part`, `make test` has one cell of so many, on diagonals: each value of each parameter.
    The others are slow."""
    places: dict[tuple[str, str], dict[int, int]] = defaultdict(dict)
    """Of each parameter of each test, the values by where they stand in it."""
    for item in items:
        part = item.get_closest_marker("part")
        if part is None or not isinstance(item, pytest.Function) or not hasattr(item, "callspec"):
            continue
        diagonal = 0
        for name, value in item.callspec.params.items():
            known = places[item.nodeid.partition("[")[0], name]
            diagonal += known.setdefault(id(value), len(known))
        if diagonal % part.args[0]:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def _guesses_pay() -> Iterator[None]:
    """Answers are planned by default: here, by what forwards cost on a machine on paper, where a draft is ten times as
    cheap as its target. No test waits for a measurement, and none hangs on how busy this machine is.

    Tests of measuring ask for the real thing, `measures`.
    """
    from planning.rounds.told import costs
    from planning.worlds import machine
    from specvlm.planning import measuring
    from specvlm.planning.planner import Planner
    from specvlm.planning.rounds import measuring as round_measuring

    made_up = {
        (measuring, "pair_costs"): lambda _, draft, **how: replace(machine(0.1), draft_reads=draft != "self"),
        (round_measuring, "round_costs"): lambda *_, captured=False, **how: replace(costs(0.1), captured=captured),
        (Planner, "_time"): lambda self, stats, measured: None,
    }
    with pytest.MonkeyPatch.context() as patch:
        for (place, name), instead in made_up.items():
            REAL[place, name] = getattr(place, name)
            patch.setattr(place, name, instead)
        yield


@pytest.fixture
def measures(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine is measured, as it is outside of tests."""
    for (place, name), real in REAL.items():
        monkeypatch.setattr(place, name, real)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how many generations were compared. It stands here since workers alone load the conftest of a folder."""
    # The counts are noted after the test itself, and only the report of the teardown has them.
    reports = [
        report
        for same_outcome in terminalreporter.stats.values()
        for report in same_outcome
        if getattr(report, "when", None) == "teardown"
    ]
    counts = {"compared": 0, "different": 0}
    for report in reports:
        for name, value in report.user_properties:
            if name in counts:
                counts[name] += value
    if counts["compared"]:
        terminalreporter.write_line(
            f"parity: {counts['compared']} generations compared with stock generate, {counts['different']} differences"
        )
