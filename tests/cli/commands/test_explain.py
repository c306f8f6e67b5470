"""specvlm explain: a page, or a reason why not."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

from browsing import tags, text_of


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


def test_a_film_on_standard_input_and_any_words(run: Callable, film: Path, small: list, tmp_path: Path):
    out, asked = tmp_path / "page.html", "<!--<script> \u05de\u05d4? $x$ [bold] " + "a" * 400
    result = run("explain", "-", asked, "--out", out, "--png", tmp_path, *small, stdin=film.read_bytes())
    assert (result.exit_code, result.stderr) == (0, "")
    html = out.read_text(encoding="utf-8")
    assert "<!--<script>" not in html
    assert "the video of " in html
    light = {"answer.png", "tree.png", "kept.png", "attention.png"}
    drawn = {path.name for path in tmp_path.glob("*.png")}
    assert drawn == light | {name.replace(".png", "-dark.png") for name in light}


def test_the_page_names_the_command_that_makes_it_again(run: Callable, film: Path, small: list, tmp_path: Path):
    out, asked = tmp_path / "page.html", 'what\'s <script>alert(1)</script> & "that"?\n--no'
    options = ["--pruner", "frames", "--max-new-tokens", 8, "--no-do-sample", "--stop", "x y", "--stop", "z", *small]
    assert run("explain", film, asked, "--out", out, *options).exit_code == 0
    page = out.read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert len([name for name, _ in tags(page) if name == "script"]) == 2
    again = shlex.split(text_of(page, "command"))
    assert again == ["specvlm", *map(str, ["explain", film, asked, "--out", out, *options])]
    out.unlink()
    assert run(*again[1:]).exit_code == 0
    assert text_of(out.read_text(encoding="utf-8"), "command") == text_of(page, "command")
