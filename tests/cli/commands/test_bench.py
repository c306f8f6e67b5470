"""specvlm bench: what is asked of the library, what is printed of its document, where files go."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import pytest

from bench.documents import document
from browsing import text_of
from specvlm.bench import suite
from specvlm.bench.suite import Setup
from specvlm.bench.widened import subjects
from specvlm.cli.commands.bench import PairName


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Setup]:
    """What the library was asked to measure; it answers with a document at once."""
    setups: list[Setup] = []

    def measure(setup: Setup, say: Any, on_run: Any) -> dict[str, Any]:
        setups.append(setup)
        made = document(pair=setup.name, dtype=setup.dtype or "float32")
        if setup.dtype is None:
            for arm in made["arms"]:
                arm["identical"], arm["first_divergence"] = True, None
        return made

    monkeypatch.setattr(suite, "run", measure)
    return setups


def test_nothing_given_is_the_librarys_default(run: Callable, asked: list[Setup]):
    result = run("bench")
    assert result.exit_code == 0, result.output
    assert asked == [Setup(pair="pocket-llava_onevision")]
    assert "Speed: 145 video tokens" in result.stdout
    assert "How cost grows" in result.stdout
    assert result.stderr == ""


def test_every_option_arrives(run: Callable, asked: list[Setup]):
    result = run(
        *("bench", "--pair", "pocket-qwen2_5_vl", "--video-tokens", "500, 3000", "--new-tokens", "64,128"),
        *("--ratios", "0.5,0.9", "--arms", "assisted,specvlm,auto@0.5", "--dtype", "bfloat16", "--repeats", 5),
        *("--cached", "300,6000", "--exact-length", "--threads", 1, "--device-map", "cuda:0"),
        *("--compile", "inductor"),
    )
    assert result.exit_code == 0, result.output
    assert asked == [
        Setup(
            pair="pocket-qwen2_5_vl",
            video_tokens=(500, 3000),
            new_tokens=(64, 128),
            ratios=(0.5, 0.9),
            arms=("assisted", "specvlm", "auto@0.5"),
            dtype="bfloat16",
            repeats=5,
            cached=(300, 6000),
            exact_length=True,
            device_map="cuda:0",
            compile="inductor",
        )
    ]


def test_any_two_checkpoints_can_be_measured(run: Callable, asked: list[Setup]):
    result = run("bench", "--target", "somewhere/big", "--draft", "Some/Small-1B")
    assert result.exit_code == 0, result.output
    assert asked == [Setup(target="somewhere/big", draft="Some/Small-1B")]
    assert asked[0].name == "big+Small-1B"


def test_the_last_line_is_the_document(run: Callable, asked: list[Setup]):
    result = run("bench", "--json")
    [line] = result.stdout.splitlines()
    assert json.loads(line)["bench"]["pair"] == "pocket-llava_onevision"
    assert json.loads(line).keys() >= {"arms", "machine", "versions", "options", "costs", "cells"}
    assert "Speed: 145 video tokens" in result.stderr


def test_files_go_where_they_are_wanted(run: Callable, asked: list[Setup], tmp_path: Path):
    where = {"--plot": "a.svg", "--html": "a.html", "--out": "new/folder"}
    asked_for = ["bench", *chain.from_iterable((name, tmp_path / path) for name, path in where.items())]
    result = run(*asked_for)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "a.svg").stat().st_size > 1000
    page = (tmp_path / "a.html").read_text()
    assert "data:image/svg+xml" in page
    assert text_of(page, "command") == shlex.join(["specvlm", *map(str, asked_for)])
    folder = tmp_path / "new" / "folder"
    assert sorted(path.name for path in folder.iterdir()) == [
        "pocket-llava_onevision-float32-dark.png",
        "pocket-llava_onevision-float32.json",
        "pocket-llava_onevision-float32.png",
    ]
    kept = json.loads((folder / "pocket-llava_onevision-float32.json").read_text())
    assert kept["bench"]["pair"] == "pocket-llava_onevision"


@pytest.mark.parametrize(("dtype", "exit_code"), [("float32", 1), ("bfloat16", 0)])
def test_an_answer_that_differs(run: Callable, asked: list[Setup], dtype: str, exit_code: int):
    result = run("bench", "--dtype", dtype)
    assert result.exit_code == exit_code
    assert "SpecVLM, 90 % pruned, 145 video tokens: differs from stock generate from token 17 on" in result.stderr


@pytest.mark.parametrize(
    ("option", "value", "naming"),
    [
        ("--pair", "gpt", "gpt"),
        ("--target", "somewhere/big", "name a pair, or else a target and a draft"),
        ("--draft", "self", "name a pair, or else a target and a draft"),
        ("--device-map", "gpu", "device_map must be a device such as cuda"),
        ("--device-map", "cuda:63", "device_map='cuda:63': torch finds"),
        ("--arms", "ar,legs", "legs"),
        ("--video-tokens", "many", "many"),
        ("--new-tokens", "", "new_tokens"),
        ("--ratios", "half", "half"),
        ("--dtype", "float16", "float16"),
        ("--repeats", "0", "repeats"),
        ("--cached", "-3", "-3"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_measured(
    run: Callable, monkeypatch: pytest.MonkeyPatch, option: str, value: str, naming: str
):
    monkeypatch.setattr(suite.roofline, "measure", lambda **_: pytest.fail("measured"))
    result = run("bench", option, value)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert naming in result.stderr


def test_a_missing_matplotlib_is_told_before_anything_is_measured(
    run: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(suite.roofline, "measure", lambda **_: pytest.fail("measured"))
    result = run("bench", "--plot", tmp_path / "a.png")
    assert result.exit_code == 2
    assert "pip install matplotlib" in result.stderr


def test_the_help_names_the_pairs_that_there_are():
    """It is written out, for reading it must not wait for PyTorch."""
    assert get_args(PairName) == tuple(subjects.NAMES)


def test_what_was_measured_is_kept_before_it_is_drawn(
    run: Callable, asked: list[Setup], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object) -> None:
        raise RuntimeError("no ink")

    monkeypatch.setattr("specvlm.bench.showing.plots._speedups", fail)
    monkeypatch.setattr("specvlm.cli.tables.of_bench", fail)
    result = run("bench", "--json", "--out", tmp_path / "out", "--plot", tmp_path / "plot.png")
    assert result.exit_code == 70
    [kept] = (tmp_path / "out").glob("*.json")
    assert json.loads(kept.read_text()) == json.loads(result.stdout)
