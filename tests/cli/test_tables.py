"""Every table at 80 columns: a row an arm, nothing cut, and words that people know."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from bench.documents import ARMS, PLAIN, document
from evals.records import CONFIG, run_of
from specvlm.cli import tables
from specvlm.cli.columns import GAP, fitted
from specvlm.comparing.arms import WAYS
from specvlm.comparing.words import WORDS, words
from specvlm.engine.stats import Stats
from specvlm.evals.reporting.metrics import metrics_of
from specvlm.evals.run_folder import Run

WIDTH = 80

TEXTS = st.text(st.characters(categories=("Lu", "Ll", "Nd"), max_codepoint=0x2FF), min_size=1, max_size=30)


def drawn(*parts: RenderableType, width: int = WIDTH) -> str:
    screen = Console(width=width, file=io.StringIO(), record=True, markup=False, highlight=False)
    for part in parts:
        screen.print(part)
    return screen.export_text()


def assert_whole(text: str) -> None:
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "…" not in text


@given(st.data(), st.integers(2, 12), st.integers(1, 5), st.integers(40, 120))
def test_no_table_is_wider_than_the_screen_and_no_cell_is_lost(
    data: st.DataObject, columns: int, lines: int, width: int
) -> None:
    head, *rows = data.draw(st.lists(st.lists(TEXTS, min_size=columns, max_size=columns), min_size=lines + 1))
    found = fitted(head, rows, width)
    text = drawn(*found, width=width)
    assert all(len(line) <= width for line in text.splitlines())
    assert "…" not in text
    shown = [column.header for table in found for column in table.columns]
    assert [name for name in shown if name != head[0]] == [name for name in head[1:] if name != head[0]]
    letters = sorted("".join(map("".join, rows)).replace(" ", ""))
    extra = sorted("".join(row[0] for row in rows) * (len(found) - 1))
    drawn_letters = sorted(
        letter for table in found for column in table.columns for letter in "".join(map(str, column.cells))
    )
    assert drawn_letters == sorted(letters + extra)


def test_cells_that_fit_stay_on_one_line() -> None:
    [table] = fitted(("", "one long head"), [("a name", "1.00 x"), ("another", "12.00 x")], WIDTH)
    lines = drawn(table).splitlines()
    assert lines[-2:] == [f"a name {' ' * GAP}{'1.00 x':>7}", f"another{' ' * GAP}12.00 x"]
    assert [line.split() for line in lines[:3]] == [["one"], ["long"], ["head"]]


def test_a_short_name_leaves_its_room_to_a_long_one() -> None:
    [table] = fitted(("a", "b", "c"), [("x", "verifier_guided(top_p=0.4)", "0.9")], WIDTH, named=2)
    assert drawn(table).splitlines()[-1].split() == ["x", "verifier_guided(top_p=0.4)", "0.9"]


def test_every_arm_has_words_of_its_own() -> None:
    assert WORDS.keys() == WAYS.keys()
    assert len(set(WORDS.values())) == len(WORDS)
    assert words("specvlm@0.75") == "SpecVLM, 75 % pruned"


def test_arms() -> None:
    every = [replace(PLAIN, arm=name) for name in [*WAYS, "auto@0.95"]]
    text = drawn(
        tables.of_arms([*every, replace(ARMS[-1], arm="specvlm")], {"decode_speedup": "ar-no-cudnn"}, width=80)
    )
    assert_whole(text)
    assert len(re.findall("^SpecVLM, 90 % pruned .* no, from 17 ", text, re.MULTILINE)) == 1
    for name in WAYS:
        assert len(re.findall(f"^{re.escape(words(name))}  ", text, re.MULTILINE)) >= 2
        assert f"{words(name)} ({name}): " in text


def test_the_fastest_arm_is_bold() -> None:
    screen = Console(width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="standard")
    screen.print(tables.of_arms(ARMS, width=WIDTH))
    assert isinstance(screen.file, io.StringIO)
    [line, *_] = [line for line in screen.file.getvalue().splitlines() if "SpecVLM, 90 % pruned" in line]
    assert line.startswith("\x1b[1m")


@pytest.fixture
def run_folder(tmp_path: Path) -> Run:
    records = run_of("0", ar={}, sd={"seconds": 0.5}, specvlm={"seconds": 0.25})
    return Run(tmp_path / "a-run-with-quite-a-long-name", CONFIG, records)


def test_figures_of_a_run(run_folder: Run) -> None:
    arms = metrics_of(run_folder)["settings"]["default"]["arms"]
    text = drawn(tables.of_figures(arms, WIDTH))
    assert_whole(text)
    assert re.search(r"^stock generate +1 +1 of 1 ", text, re.MULTILINE)
    assert "4.00 x" in text
    assert not re.search(r"^(ar|sd|specvlm)\b", text, re.MULTILINE)


def test_runs_side_by_side(run_folder: Run) -> None:
    arms: dict[str, Any] = metrics_of(run_folder)["settings"]["default"]["arms"]
    keys = {
        (run, setting, arm): found for run in ("one", "two") for setting in ("", "b") for arm, found in arms.items()
    }
    text = drawn(tables.of_runs(keys, WIDTH))
    assert_whole(text)
    first = text.partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in first if line.startswith(("one", "two"))] == ["one", "two"]
    assert sum("plain speculation" in line for line in first) == 4


def test_a_bench_says_each_note_once() -> None:
    text = drawn(tables.of_bench(document(), WIDTH))
    assert_whole(text)
    assert text.count("Acceptance: mean") == 1
    assert re.search(r"^stock generate +1\.25 +6\.30 +7\.55$", text, re.MULTILINE)  # phases: a row an arm
    assert "time to first token, stock generate" in text


def test_statistics_of_an_answer() -> None:
    stats = Stats((torch.device("cpu"),))
    with stats.phase("prefill_target"):
        pass
    assert_whole(drawn(tables.of_stats(stats)))


@pytest.mark.parametrize("command", [("pruners",), ("plan", "--predict")])
def test_as_commands_print_them(run: Callable, command: tuple[str, ...]) -> None:
    assert_whole(run(*command).stdout)
