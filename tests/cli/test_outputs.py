"""Where files are written to is a folder or a file as everywhere: also at home, and at the home of nobody."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from specvlm.cli.outputs import require_file, require_folder

KEPT = Path(__file__).parents[1] / "evals" / "kept_runs" / "eval"
NOBODY = "~nobody-of-that-name/x"


@pytest.mark.parametrize(
    "asked",
    [
        ["convert", KEPT, "--to", "paper", "--out", NOBODY],
        ["report", KEPT, "--html", NOBODY],
        ["bench", "--out", NOBODY],
        ["bench", "--plot", f"{NOBODY}.png"],
        ["bench", "--reading", "--out", NOBODY],
        ["bench", "--reading", "--film-folder", NOBODY],
        ["explain", "x.mp4", "What?", "--png", NOBODY],
        ["eval", "--num-samples", 1, "--out", NOBODY],
        ["sweep", "--num-samples", 1, "--out", NOBODY],
        ["demo", "--save", f"{NOBODY}.mp4"],
    ],
    ids=lambda asked: " ".join(map(str, (asked[0], *asked[-2:]))),
)
def test_the_home_of_nobody_is_refused(
    run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*asked)
    assert result.exit_code == 2, result.output
    assert result.stderr.count("\n") == 1
    assert "there is no such user here" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_home_is_where_its_owner_lives(run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run("convert", KEPT, "--to", "paper", "--out", "~/converted").exit_code == 0
    assert {path.name for path in (tmp_path / "converted").iterdir()} == {"results.jsonl", "metric.jsonl"}
    assert require_folder(Path("~/made"), "out") == tmp_path / "made"
    assert require_file(Path("~/page.html"), "html") == tmp_path / "page.html"
