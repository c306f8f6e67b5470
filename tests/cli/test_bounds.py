"""Work without bounds is refused before it begins: input that doesn't end, numbers without sense, nothing to do."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from specvlm.bench import suite
from specvlm.cli import inputs
from specvlm.errors import OptionError


def refused(result, *naming: str) -> None:
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert all(name in result.stderr for name in naming), result.stderr


@pytest.mark.parametrize("command", ["generate", "compare", "explain"])
def test_a_video_on_standard_input_that_does_not_end(
    run: Callable, small: list, monkeypatch: pytest.MonkeyPatch, command: str
):
    monkeypatch.setattr(inputs, "MOST_BYTES", 2**20)
    refused(run(command, "-", "What?", *small, stdin=bytes(2**22)), "more than 1 MiB", "as a file")


def test_a_line_that_does_not_end(run: Callable, film: Path, small: list, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inputs, "LONGEST", 100)
    refused(run("chat", film, *small, stdin=b"a" * 5000), "more than 100 characters")


def test_lines_that_are_no_utf8(run: Callable, film: Path, small: list):
    refused(run("chat", film, *small, stdin=b"caf\xe9\n"), "half a letter")


@pytest.mark.parametrize("read", [lambda: inputs.opened("-"), lambda: next(inputs.typed_lines())])
def test_a_standard_input_that_is_closed(monkeypatch: pytest.MonkeyPatch, read: Callable):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(OptionError, match="standard input is closed"):
        read()


@pytest.mark.parametrize(
    ("option", "value", "naming"),
    [
        ("--depth", "1000000000", "depth must be a whole number from 1 to 1024"),
        ("--num-nodes", "1000000000", "num_nodes"),
        ("--width", "1000000000", "width"),
        ("--threads", "1000000", "--threads"),
    ],
)
def test_a_number_without_sense(run: Callable, film: Path, small: list, option: str, value: str, naming: str):
    refused(run("generate", film, "What?", *small, option, value), naming)


def test_repeats_without_sense_and_arms_that_are_none(run: Callable, film: Path, small: list):
    refused(run("compare", film, "What?", *small, "--repeats", 10**9), "repeats must be 1 or more, up to 1000")
    refused(run("compare", film, "What?", *small, "--arms", " ,"), "arms: name at least one")
    refused(run("demo", "--repeats", 10**9), "repeats")


@pytest.mark.parametrize(
    ("option", "value", "naming"),
    [
        ("--repeats", "1000000000", "repeats"),
        ("--arms", "", "arms: name at least one"),
        ("--ratios", "", "ratios: name at least one"),
        ("--threads", "1000000", "threads"),
    ],
)
def test_nothing_is_measured_for_it(
    run: Callable, monkeypatch: pytest.MonkeyPatch, option: str, value: str, naming: str
):
    monkeypatch.setattr(suite, "run", lambda *_: pytest.fail("measured"))
    refused(run("bench", option, value), naming)


@pytest.mark.parametrize("name", ["pocket-llava_onevision-float32.json", "pocket-llava_onevision-float32-dark.png"])
def test_what_is_in_the_way_of_an_output_is_told_before_anything_is_measured(
    run: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
):
    monkeypatch.setattr(suite, "run", lambda *_: pytest.fail("measured"))
    (tmp_path / name).mkdir()
    refused(run("bench", "--out", tmp_path), "in the way", name)
