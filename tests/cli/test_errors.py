"""What is wrong with the input is one line on standard error, exit code 2, and nothing on standard output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import video_zoo
from specvlm.errors import OptionError
from tiny import llava_model, llava_processor


def refused(result, *, naming: str) -> None:
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert naming in result.stderr


@pytest.mark.parametrize(
    ("option", "value", "naming"),
    [
        ("--pruning-ratio", "1.5", "1.5"),
        ("--pruner", "clairvoyant", "clairvoyant"),
        ("--tree", "[[0], [0, 1, 2]]", "parent"),
        ("--tree", "[[0], ", "JSON"),
        ("--max-new-tokens", "-1", "-1"),
        ("--temperature", "-1", "temperature"),
        ("--fps", "nan", "fps"),
        ("--dtype", "float31", "float31"),
        ("--attn", "none_such", "none_such"),
        ("--device-map", "nowhere", "nowhere"),
        ("--device-map", "cuda:99", "cuda:99"),
        ("--target", "/no/such/checkpoint", "/no/such/checkpoint"),
        ("--draft", "/no/such/checkpoint", "/no/such/checkpoint"),
    ],
)
def test_option(run: Callable, film: Path, small: list, option: str, value: str, naming: str):
    refused(run("generate", film, "what?", *small, option, value), naming=naming)


def test_word_that_is_none_of_those_allowed():
    """In a process of its own, for in this one the annotations are checked, and refuse such a word first."""
    script = """
from typer.testing import CliRunner
from specvlm.cli import app
for option in ("--pruner=window(where='sideways')", "--positions=sideways", "--tree=sideways"):
    result = CliRunner().invoke(app, ["generate", "film.mp4", "what?", option])
    assert (result.exit_code, result.stdout, result.stderr.count("\\n")) == (2, "", 1), result.output
    assert "sideways" in result.stderr
"""
    subprocess.run([sys.executable, "-c", script], env=environment(), check=True)


def test_two_ways_to_choose_frames(run: Callable, film: Path, small: list):
    refused(run("generate", film, "what?", *small, "--fps", 2), naming="fps")


def test_missing_file(run: Callable, small: list):
    refused(run("generate", "/no/such/film.mp4", "what?", *small), naming="/no/such/film.mp4")


def test_text_named_mp4(run: Callable, small: list, tmp_path: Path):
    path = tmp_path / "notes.mp4"
    path.write_text("this is a text\n" * 50)
    refused(run("generate", path, "what?", *small), naming="text")


def test_half_a_file(run: Callable, film: Path, small: list, tmp_path: Path):
    whole = film.read_bytes()
    path = tmp_path / "half.mp4"
    path.write_bytes(whole[: len(whole) // 2])
    refused(run("generate", path, "what?", *small), naming="half.mp4")


def test_sound_only(run: Callable, small: list, tmp_path: Path):
    path = video_zoo.write_audio(tmp_path / "song.m4a")
    refused(run("generate", path, "what?", *small), naming="song.m4a")


@pytest.mark.parametrize("command", ["generate", "compare"])
def test_empty_question(run: Callable, film: Path, small: list, command: str):
    refused(run(command, film, "  ", *small), naming="question")


def test_empty_standard_input(run: Callable, small: list):
    refused(run("generate", "-", "what?", *small, stdin=b""), naming="0 bytes")


def test_draft_with_another_tokenizer(run: Callable, film: Path, pair: Path, tmp_path: Path):
    llava_model(seed=2).save_pretrained(tmp_path)
    processor = llava_processor()
    words = json.loads(processor.tokenizer.backend_tokenizer.to_str())
    words["model"]["vocab"]["zzzz"] = len(words["model"]["vocab"])
    processor.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(json.dumps(words))
    two = ("--target", pair / "target", "--draft", tmp_path)
    refused(run("generate", film, "what?", *two, "--device", "cpu"), naming="tokenizer")


def test_unsupported_model(run: Callable, film: Path, tmp_path: Path):
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    result = run("generate", film, "what?", "--target", tmp_path)
    refused(result, naming="qwen2")
    assert "llava_onevision" in result.stderr


@pytest.mark.parametrize("broken", ["config.json", "model.safetensors", "tokenizer.json", "processor_config.json"])
def test_damaged_checkpoint(run: Callable, film: Path, pair: Path, tmp_path: Path, broken: str):
    for path in (pair / "target").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / broken).write_bytes(b"not what it was")
    refused(run("generate", film, "what?", "--target", tmp_path, "--device", "cpu"), naming=str(tmp_path))


def test_unknown_arm_or_number_of_repeats(run: Callable, film: Path, small: list):
    refused(run("compare", film, "what?", *small, "--arms", "ar,legs"), naming="legs")
    refused(run("compare", film, "what?", *small, "--repeats", 0), naming="repeats")


def test_arm_without_a_draft(run: Callable, film: Path, pair: Path):
    refused(run("compare", film, "what?", "--target", pair / "target"), naming="draft")


def test_unknown_family_or_film(run: Callable):
    refused(run("demo", "--family", "llava_onevision_13"), naming="llava_onevision_13")
    refused(run("demo", "--film", 10**9), naming="film")


def test_a_message_of_several_lines_becomes_one(run: Callable, film: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(**_: object):
        raise OptionError("first\n  second")

    monkeypatch.setattr("specvlm.pipeline.look", fail)
    result = run("generate", film, "what?")
    refused(result, naming="first second")


def test_control_c(run: Callable, film: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupt(**_: object):
        raise KeyboardInterrupt

    monkeypatch.setattr("specvlm.pipeline.look", interrupt)
    result = run("generate", film, "what?")
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "")


def test_as_a_program():
    """No traceback, no warning and no progress bar of anybody's on the way."""
    process = subprocess.run(
        [sys.executable, "-m", "specvlm", "generate", "/no/such/film.mp4", "what?"],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr == "error: there is no file '/no/such/film.mp4'\n"


def test_a_reader_that_goes_away():
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.run(
        [sys.executable, "-m", "specvlm", "pruners"],
        env=environment(),
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writing)
    assert process.stderr == ""
    assert process.returncode == 141


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
