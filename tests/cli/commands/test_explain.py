"""specvlm explain: a page, or a reason why not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def test_it_writes_the_page_and_says_the_answer(run: Callable, film: Path, small: list, tmp_path: Path):
    out = tmp_path / "page.html"
    result = run("explain", film, "what?", "--out", out, *small)
    assert result.exit_code == 0
    html = out.read_text(encoding="utf-8")
    assert html.startswith("<!doctype html>")
    assert "what?" in html
    answer = result.stdout.partition("\n\nWritten to")[0].strip()
    assert answer
    assert "page.html" in result.stdout


def test_a_folder_that_is_not_there_is_noticed_before_any_work(run: Callable, film: Path, small: list, tmp_path: Path):
    result = run("explain", film, "what?", "--out", tmp_path / "nowhere" / "page.html", *small)
    assert result.exit_code == 2
    assert "nowhere" in result.stderr
    assert len(result.stderr.splitlines()) == 1
