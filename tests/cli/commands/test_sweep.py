"""specvlm sweep, from the data to the pictures."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from browsing import outside_requests, text_of
from evals.layouts import LAYOUTS
from specvlm.cli.commands.sweep import _list
from specvlm.evals.run_folder import read_run


@pytest.fixture
def swept(run: Callable, small: list, tmp_path: Path) -> Callable:
    """Run `specvlm sweep` on two films; the result, and where the run is."""
    films = LAYOUTS["folder"](tmp_path / "films")

    def invoke(*arguments: object):
        given = ["sweep", "--task", "folder", "--data", films, "--out", tmp_path / "run", "--num-samples", 2, *small]
        return run(*given, *arguments), tmp_path / "run"

    return invoke


POINTS = ("--pruners", "frames,verifier_guided(top_p=0.5, fraction=None)", "--ratios", "0.5,0.9")


def test_a_sweep_is_a_run_with_pictures(swept: Callable, run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    result, out = swept(*POINTS, "--json")
    assert result.exit_code == 0, result.output
    records = read_run(out).records
    assert len(records) == 2 * (2 + 4)
    assert [record["identical"] for record in records] == [True] * len(records)
    drawn = ["against_ratio-dark.png", "against_ratio.png", "over_time-dark.png", "over_time.png"]
    assert sorted(path.name for path in (out / "plots").iterdir()) == drawn
    page = (out / "report.html").read_text()
    assert page.count("<picture>") == page.count('src="data:image/svg+xml;base64,') == 4
    assert outside_requests(page) == []
    assert "at no loss: all 10 answers are the same" in page
    assert "Every point gave the same answers" in page
    for words in ("verifier_guided", "0.9", "Kept: video tokens"):
        assert words in result.stderr
    paths = ("Report: ", "Pictures: ")  # which are whole, to be copied
    assert max(len(line) for line in result.stderr.splitlines() if not line.startswith(paths)) <= 80
    assert "…" not in result.stderr
    document = json.loads(result.stdout)
    assert document["metrics"] == json.loads((out / "metrics.json").read_text())
    assert [(point["pruner"], point["ratio"]) for point in document["metrics"]["points"]] == [
        (None, 0.0),
        (None, 0.0),
        ("frames", 0.5),
        ("frames", 0.9),
        ("verifier_guided(top_p=0.5, fraction=None)", 0.5),
        ("verifier_guided(top_p=0.5, fraction=None)", 0.9),
    ]

    again = shlex.split(text_of(page, "command"))
    assert again[:2] == ["specvlm", "sweep"]
    assert again[-2:] == ["--out", out.name]
    result = run(*again[1:-1], out)  # a run takes nothing but what it was asked before
    assert result.exit_code == 0, result.output

    lines = (out / "results.jsonl").read_bytes().splitlines(keepends=True)
    (out / "results.jsonl").write_bytes(b"".join(lines[:4]) + lines[4][:30])
    result, _ = swept(*POINTS)
    assert result.exit_code == 0
    again = (out / "results.jsonl").read_bytes().splitlines(keepends=True)
    assert again[:4] == lines[:4]
    assert [json.loads(line)["identical"] for line in again] == [True] * len(lines)
    monkeypatch.setattr("specvlm.pipeline.look", lambda **how: pytest.fail("a finished sweep needs no models"))
    result, _ = swept(*POINTS)
    assert result.exit_code == 0
    result, _ = swept("--pruners", "frames", "--ratios", "0.5")
    assert result.exit_code == 2
    assert "holds another run" in result.stderr


def test_a_sweep_is_extended_killed_and_extended(swept: Callable) -> None:
    points = ("--pruners", "frames", "--ratios", "0.5")
    _, out = swept(*points, "--num-samples", 1)
    first = (out / "results.jsonl").read_bytes()
    assert first.count(b"\n") == 3
    (out / "results.jsonl").write_bytes(first[:-20])
    result, _ = swept(*points)
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines()[0] == "sweep: 0 of 4 answers"
    assert (out / "results.jsonl").read_bytes().startswith(b"".join(first.splitlines(keepends=True)[:2]))
    records = read_run(out).records
    assert [(record["sample"], record["identical"]) for record in records] == [("0", True)] * 3 + [("1", True)] * 3
    points_found = json.loads((out / "metrics.json").read_text())["points"]
    assert [point["num_answers"] for point in points_found] == [2, 2, 2]
    result, _ = swept(*points, "--num-samples", 1)
    assert result.exit_code == 2
    assert "task.num_samples was 2 and is 1 now. A run can be extended, and not cut short" in result.stderr


def test_what_is_asked_for_one_answer_is_an_axis_of_one(swept: Callable) -> None:
    result, out = swept("--pruner", "window", "--pruning-ratio", 0.8, "--tree", "paper", "--num-samples", 1)
    assert result.exit_code == 0, result.output
    settings = read_run(out).config["asked"]["settings"]
    assert [setting["name"] for setting in settings] == ["4 frames, paper", "4 frames, paper, window, 0.8"]


def test_a_point_that_differs(swept: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    import specvlm

    real = specvlm.answering.oracle.generate_stock

    def lie(*arguments: object, **named: object):
        tokens, reason = real(*arguments, **named)
        return (tokens[0] + 1, *tokens[1:]), reason

    monkeypatch.setattr("specvlm.answering.oracle.generate_stock", lie)
    result, out = swept("--pruners", "frames", "--ratios", "0.5", "--num-samples", 1)
    assert result.exit_code == 1
    assert "0: differs at dynamic, plain; dynamic, frames, 0.5" in result.stderr
    assert "Points differ from stock generate on 1 of 1 samples" in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "naming"),
    [
        (("--pruners", "none_such"), "none_such"),
        (("--pruners", ","), "pruners"),
        (("--ratios", "much"), "much"),
        (("--ratios", "2"), "pruning_ratio"),
        (("--trees", "oak"), "oak"),
        (("--frames", "1.5"), "1.5"),
        (("--frames", "0"), "num_frames"),
        (("--task", "none_such"), "none_such"),
    ],
)
def test_errors_are_one_line(swept: Callable, arguments: tuple, naming: str) -> None:
    result, out = swept(*arguments)
    assert result.exit_code == 2
    assert naming in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not out.exists()


def test_commas_inside_of_parentheses_divide_nothing() -> None:
    assert _list("a, b(c=1, d=[2, 3]),,e ") == ["a", "b(c=1, d=[2, 3])", "e"]


@pytest.mark.parametrize("axis", ["pruners", "ratios", "trees", "frames"])
def test_an_axis_that_is_given_and_empty_is_not_the_usual_one(swept: Callable, axis: str) -> None:
    result, _ = swept(f"--{axis}", "")
    assert result.exit_code == 2
    assert f"{axis}: name at least one" in result.stderr
