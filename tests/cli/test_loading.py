"""How the commands load: each model by its own options, with a word about where to, and refusals of one line."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from typer.testing import CliRunner

import tiny
from specvlm.cli import options
from specvlm.cli.options import Models, loaded, spread
from specvlm.families.room.memory import Gpu, Memory
from specvlm.families.room.placement import Placement
from specvlm.pipeline import Outlook, look

REASON = "cuda:0 (H100): both models and 8192 tokens take 0.1 GiB of 79.0 GiB"


def how(*arguments: str) -> dict[str, Any]:
    """What `specvlm.load` would be called with."""
    caught: list[dict[str, Any]] = []

    @spread
    def command(*, models: Models) -> None:
        caught.append(models.how())

    alone = typer.Typer()
    alone.command()(command)
    CliRunner().invoke(alone, list(arguments), catch_exceptions=False)
    return caught[0]


USUAL = {
    "target": "pocket", "draft": None, "dtype": "auto", "device_map": None, "attn": None, "compile": "auto",
}  # fmt: skip


def test_nothing_given_is_what_it_always_was():
    """Runs keep it, and are gone on with when it is the same."""
    assert how() == USUAL


def test_target_and_draft_have_options_of_their_own():
    given = ("--target-dtype", "bfloat16", "--target-revision", "v1", "--target-device-map", "balanced")
    assert how(*given, "--draft-quantization", "nf4", "--draft-attn", "eager", "--device", "cuda:1") == USUAL | {
        "device": "cuda:1",
        "target_kwargs": {"dtype": "bfloat16", "device_map": "balanced", "revision": "v1"},
        "draft_kwargs": {"attn": "eager", "quantization_config": "nf4"},
    }


def test_they_answer(run: Callable, film: Path, small: list):
    plain = run("generate", film, "what?", *small)
    apart = run(
        "generate", film, "what?", *small, "--draft-dtype", "float64", "--target-attn", "eager", "--device", "cpu"
    )
    assert (apart.exit_code, apart.stdout, apart.stderr) == (0, plain.stdout, "")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--device", "cpu", "--device-map", "auto"), "both say where: give one"),
        (("--device", "cuda:63"), "device='cuda:63': torch finds"),
        (("--target", "nobody/nothing"), "HF_HUB_OFFLINE"),
    ],
)
def test_what_is_wrong_is_one_line(run: Callable, film: Path, small: list, given: tuple, words: str):
    result = run("generate", film, "what?", *small, *given)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert words in result.stderr


@pytest.mark.parametrize(
    ("given", "choices"),
    [
        (("--target-quantization", "q4"), ("nf4", "int8", "float8")),
        (("--draft-dtype", "int4"), ("float32", "bfloat16")),
    ],
)
def test_what_is_no_choice_is_told_with_the_choices(run: Callable, film: Path, given: tuple, choices: tuple):
    result = run("generate", film, "what?", *given)
    assert (result.exit_code, result.stdout) == (2, "")
    assert all(choice in result.stderr for choice in choices)


@pytest.mark.parametrize("command", ["demo", "bench"])
def test_measuring_commands_have_a_device_too(run: Callable, command: str):
    result = run(command, "--device", "gpu")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "must be a device such as cuda" in result.stderr


@pytest.fixture
def giant(tmp_path: Path) -> Path:
    """The config of a model that no machine holds; of its weights there are none."""
    config = tiny.llava_model(0, layers=1).config
    config.text_config.vocab_size = 2**31 - 1
    config.dtype = torch.float32
    config.save_pretrained(tmp_path / "giant")
    return tmp_path / "giant"


def test_what_cannot_fit_is_one_line_with_advice(run: Callable, film: Path, giant: Path):
    result = run("generate", film, "what?", "--target", giant)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    for words in (str(giant), "GiB in float32) needs", "GiB of memory at least, and", "dtype='bfloat16'"):
        assert words in result.stderr


def test_a_plan_of_memory_needs_no_weights_and_shows_what_is_refused(run: Callable, giant: Path, pair: Path):
    result = run("plan", "--memory", "--target", giant, "--video-tokens", 1000, "--new-tokens", 100)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "with 1200 tokens needs" in result.stderr
    for words in ("target", "float32", "1,200 tokens", "cpu"):
        assert words in result.stdout
    result = run("plan", "--memory", "--json", "--target", pair / "target", "--draft", pair / "draft")
    record = json.loads(result.stdout.splitlines()[-1])
    assert [model["role"] for model in record["models"]] == ["target", "draft"]
    assert all(model["weight_bytes"] > 0 < model["cache_bytes"] for model in record["models"])
    assert record["free_ram_bytes"] > 0
    assert record["device"] in result.stderr.replace("\n", " ")


def on_a_gpu(pair: Path) -> Outlook:
    """An outlook as a machine with a GPU would have it, that is loaded onto the CPU nevertheless."""
    outlook = look(pair / "target", pair / "draft", dtype="float32")
    memory = Memory(2**40, (Gpu(0, "H100", 79 * 2**30),))
    return replace(outlook, survey=replace(outlook.survey, memory=memory, placement=Placement(None, None, REASON)))


def test_a_device_that_was_chosen_is_told_in_one_line(pair: Path, capsys: pytest.CaptureFixture):
    loaded(on_a_gpu(pair))
    assert capsys.readouterr() == ("", f"device: {REASON}\n")


def test_a_checkpoint_is_told_where_it_goes_without_a_gpu_too(pair: Path, capsys: pytest.CaptureFixture):
    """Who has a GPU that torch doesn't find shall know, however small the model."""
    outlook = look(pair / "target", dtype="float32")
    loaded(outlook)
    assert capsys.readouterr() == ("", f"device: {outlook.survey.placement.reason}\n")
    assert outlook.survey.placement.reason.startswith("the CPU: ")


def test_of_the_embedded_toy_nothing_is_said(capsys: pytest.CaptureFixture):
    loaded(look("pocket"))
    assert capsys.readouterr() == ("", "")


def test_one_that_was_asked_for_is_not(pair: Path, capsys: pytest.CaptureFixture):
    loaded(look(pair / "target", dtype="float32", device="cpu"))
    assert capsys.readouterr().err.count("device:") == 0


def test_large_models_are_told_of_one_by_one(
    pair: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(options, "MOMENT", 0)
    run_quietly(pair)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        f"device: {REASON}",
        f"loading the target {pair / 'target'}, 0.0 GiB in float32, onto the CPU",
        f"loading the draft {pair / 'draft'}, 0.0 GiB in float32, onto the CPU",
    ]


def test_on_a_terminal_with_a_bar(pair: Path, monkeypatch: pytest.MonkeyPatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(options, "MOMENT", 0)
    monkeypatch.setattr("sys.stderr", terminal)
    run_quietly(pair)
    assert terminal.getvalue().count("loading the ") == 2
    assert "Loading weights: 100%" in terminal.getvalue()
    terminal.truncate(0)
    look(pair / "target").load()
    assert "Loading weights" not in terminal.getvalue()  # and none behind it


def run_quietly(pair: Path) -> None:
    """As a command does."""
    from transformers.utils import logging

    outlook = on_a_gpu(pair)
    logging.disable_progress_bar()
    loaded(outlook)
