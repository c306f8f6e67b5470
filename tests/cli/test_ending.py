"""An exit code means one thing, and what went wrong is one line that is never cut in the middle of a word."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from specvlm.errors import OptionError

CUDA = "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 1 has a total capacity of 79.10 GiB of which 1 GiB is free."


def raising(error: BaseException) -> Callable:
    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch, run: Callable, film: Path, small: list) -> Callable:
    """Run `generate` with models whose loading raises an error."""

    def invoke(error: BaseException, *first: object):
        monkeypatch.setattr("specvlm.pipeline.look", raising(error))
        return run(*first, "generate", film, "what?", *small)

    return invoke


@pytest.mark.parametrize(
    "error",
    [RuntimeError("no\n  such thing"), EOFError("empty"), KeyError("x"), RecursionError(), ValueError("y" * 9999)],
)
def test_what_should_not_happen_is_no_answer_that_differs(failing: Callable, error: Exception):
    result = failing(error)
    assert result.exit_code == 70
    assert result.stderr.startswith(f"error: {type(error).__name__}")
    assert result.stderr.count("\n") == 1
    assert "--debug" in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr) < 1000


@pytest.mark.parametrize("switched_on", ["option", "environment"])
def test_debug_shows_where(failing: Callable, monkeypatch: pytest.MonkeyPatch, switched_on: str):
    if switched_on == "environment":
        monkeypatch.setenv("SPECVLM_DEBUG", "1")
    for error, code in ((OptionError("wrong"), 2), (KeyError("x"), 70)):
        result = failing(error, *["--debug"][: switched_on == "option"])
        assert result.exit_code == code
        assert "Traceback" in result.stderr
        assert result.stderr.splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError(CUDA), "2.50 GiB more did not fit into the memory of GPU 1"),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried "
                "to allocate 17179869184 bytes. Error code 12 (Cannot allocate memory)"
            ),
            "16 GiB more did not fit into the memory of the CPU",
        ),
        (MemoryError("Unable to allocate 7.11 GiB for an array with shape (9,) and data type uint8"), "7.11 GiB"),
        (MemoryError("std::bad_alloc"), "out of memory"),
        (RuntimeError("std::bad_alloc"), "out of memory"),
        (OSError(12, "Cannot allocate memory"), "out of memory"),
    ],
)
def test_running_out_of_memory_says_what_would_help(failing: Callable, error: Exception, said: str):
    result = failing(error)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    for words in (said, "num_frames", "max_new_tokens", "pruning_ratio", "device_map"):
        assert words in result.stderr


def test_memory_that_a_video_asked_for(run: Callable, film: Path, small: list, monkeypatch: pytest.MonkeyPatch):
    """The error that was made of it is named too."""
    monkeypatch.setattr(
        "specvlm.video.loading.decode", raising(MemoryError("Unable to allocate 3.00 GiB for an array"))
    )
    result = run("generate", film, "what?", *small)
    assert result.exit_code == 2
    assert "3.00 GiB" in result.stderr
    assert "num_frames" in result.stderr


def test_a_full_disk_is_no_bug(failing: Callable):
    result = failing(OSError(28, "No space left on device", "/runs/results.jsonl"))
    assert (result.exit_code, result.stderr) == (2, "error: /runs/results.jsonl: No space left on device\n")


@pytest.mark.parametrize(
    "arguments", [("pruners",), ("pruners", "--json"), ("--help",), ("generate", "--help"), ("--version",)]
)
def test_a_reader_that_goes_away_is_no_answer_that_differs(arguments: tuple[str, ...]):
    reading, writing = os.pipe()
    os.close(reading)
    process = program(*arguments, stdout=writing)
    os.close(writing)
    assert (process.returncode, process.stderr) == (141, "")


@pytest.mark.parametrize("arguments", [("pruners", "--json"), ("--help",)])
def test_a_full_standard_output_is_one_line(arguments: tuple[str, ...]):
    """And the interpreter, which tries once more at its end, has nothing to add."""
    with Path("/dev/full").open("wb") as full:
        process = program(*arguments, stdout=full.fileno())
    assert (process.returncode, process.stderr) == (2, "error: standard output: No space left on device\n")


@pytest.mark.parametrize(
    ("closed", "code", "told"),
    [(">&-", 2, "error: standard output is closed: there is nowhere to write an answer to\n"), ("2>&-", 0, "")],
)
def test_a_stream_that_the_shell_has_closed(closed: str, code: int, told: str):
    command = f'"$0" -m specvlm pruners --json {closed}'
    process = subprocess.run(
        ["sh", "-c", command, sys.executable],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (process.returncode, process.stderr) == (code, told)
    assert (process.stdout != "") == (code == 0)


def test_an_error_that_nobody_can_hear_keeps_its_code():
    with Path("/dev/full").open("wb") as full:
        process = program("generate", "/no/such/film.mp4", "what?", stderr=full.fileno())
    assert (process.returncode, process.stdout) == (2, "")


def program(
    *arguments: str | bytes, stdout: int = subprocess.PIPE, stderr: int = subprocess.PIPE, **environment: str
) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "specvlm", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        stdout=stdout,
        stderr=stderr,
        text=True,
    )


def test_a_terminal_that_lacks_letters(run: Callable):
    """What it has none for is escaped; in JSON, as JSON does it."""
    script = """
import json, sys
from specvlm.cli.ending import ending
from specvlm.cli.screen import write_record
with ending():
    print("caf\\u00e9 \\udce9")
    write_record({"answer": "\\u00e9 \\U0001f600 \\udce9"})
"""
    process = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONIOENCODING": "ascii"},
        capture_output=True,
    )
    first, record = process.stdout.decode("ascii").splitlines()
    assert first == r"caf\xe9 \udce9"
    assert json.loads(record) == {"answer": "é \U0001f600 \udce9"}


def test_a_question_that_is_no_text(run: Callable, film: Path, small: list, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("specvlm.pipeline.look", raising(AssertionError("nothing is loaded for it")))
    for command in ("generate", "compare", "explain"):
        result = run(command, film, os.fsdecode(b"caf\xe9?"), *small)
        assert result.exit_code == 2, command
        assert r"caf\udce9?" in result.stderr
        assert "UTF-8" in result.stderr
    result = run("generate", film, "what?", "--system", "\udce9", *small)
    assert result.exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("generate", "FILM", "what?", "--pruner", "LONG"),
        ("generate", "FILM", "what?", "--tree", "[LONG"),
        ("compare", "FILM", "what?", "--arms", "LONG"),
        ("compare", "FILM", "what?", "--arms", "specvlm@LONG"),
        ("eval", "--out", "x", "--engine", "LONG"),
        ("eval", "--out", "x", "--task", "LONG"),
        ("sweep", "--out", "x", "--ratios", "LONG"),
        ("sweep", "--out", "x", "--trees", "LONG"),
        ("bench", "--ratios", "LONG"),
        ("bench", "--pair", "LONG"),
        ("demo", "--family", "LONG"),
    ],
)
def test_no_message_holds_more_than_a_line_of_what_was_given(run: Callable, film: Path, arguments: tuple[str, ...]):
    word = "sideways " * 400
    given = [each.replace("LONG", word).replace("FILM", str(film)) for each in arguments]
    result = run(*given)
    assert result.exit_code == 2, result.output
    assert result.stderr.count("\n") == 1
    assert len(result.stderr) < 900
    assert "sideways" in result.stderr


def test_the_reason_of_a_library_is_kept_whole(run: Callable, film: Path, small: list, monkeypatch: pytest.MonkeyPatch):
    """It may end with what would help."""
    reason = f"{'the weights are of another shape ' * 9}and so: pass ignore_mismatched_sizes=True"
    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", raising(ValueError(reason)))
    result = run("generate", film, "what?", *small)
    assert result.exit_code == 2
    assert reason in result.stderr


@pytest.mark.parametrize("command", ["generate", "compare", "explain", "eval", "sweep", "plan", "bench", "demo"])
class TestBeforeAnythingIsLoaded:
    """Each of these is told before the models are, which may take minutes."""

    @pytest.fixture(autouse=True)
    def nothing_is_loaded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("specvlm.pipeline.look", raising(AssertionError("the models were loaded")))
        monkeypatch.setattr("specvlm.bench.suite.run", raising(AssertionError("the bench was run")))
        monkeypatch.setattr("specvlm.pocket.demo_video", raising(AssertionError("a film was made")))

    @pytest.fixture
    def wrong(self, command: str, film: Path, pair: Path, tmp_path: Path) -> list[tuple[list[object], str]]:
        """What is asked of each command, and the word that the message has to have."""
        alone = ("--target", pair / "target")
        missing = "/no/such/film.mp4"
        films = tmp_path / "films"
        films.mkdir()
        (films / "film.mp4").write_bytes(film.read_bytes())
        data = ("--task", "folder", "--data", films, "--out", tmp_path / "run")
        read_only = tmp_path / "nowhere" / "file.html"
        film.with_name("kept.png").touch()
        return {
            "generate": [
                ([missing, "what?"], missing),
                ([film, " "], "question"),
                ([film, "what?", " "], "question"),
                ([film, "what?", "--more-videos", missing], missing),
                ([film, "what?", "--images", missing], missing),
            ],
            "compare": [
                ([missing, "what?"], missing),
                ([film, " "], "question"),
                ([film, "what?", "--arms", "legs"], "legs"),
                ([film, "what?", "--repeats", 0], "repeats"),
                ([film, "what?", "--images", missing], missing),
                ([film, "what?", *alone], "draft"),
            ],
            "explain": [
                ([missing, "what?"], missing),
                ([film, " "], "question"),
                ([film, "what?", "--out", films], "is a folder"),
                ([films / "film.mp4", "what?", "--out", films / "film.mp4"], "is read"),
                ([films, "what?", "--png", films / "pictures"], "is read"),
                ([films, "what?", "--out", films / "page.html"], "is read"),
                ([(films / "film.mp4").as_uri(), "what?", "--out", films / "film.mp4"], "is read"),
                ([film, "what?", "--images", film.with_name("kept.png"), "--png", film.parent], "is read"),
                ([film, "what?", *alone, "--out", pair / "target" / "config.json"], "is read"),
                ([film, "what?", "--out", "/dev/null"], "regular file"),
                ([film, "what?", "--png", film / "pictures"], "pictures"),
            ],
            "eval": [([*data, *alone], "draft"), ([*data, "--arms", "legs"], "legs")],
            "sweep": [([*data, *alone], "draft")],
            "plan": [(list(alone), "draft")],
            "bench": [
                (["--plot", tmp_path / "plot.xyz"], "plot.xyz"),
                (["--plot", films], "folder"),
                (["--html", read_only], "nowhere"),
                (["--html", "/dev/null"], "regular file"),
                (["--out", film / "new"], "new"),
            ],
            "demo": [(["--repeats", 0], "repeats"), (["--family", "none_such"], "none_such")],
        }[command]

    def test_is_told(self, run: Callable, command: str, wrong: list[tuple[list[object], str]]) -> None:
        for arguments, naming in wrong:
            result = run(command, *arguments)
            assert result.exit_code == 2, (arguments, result.output)
            assert naming in result.stderr
            assert result.stderr.count("\n") == 1


def test_a_draft_of_no_supported_kind_is_told_before_the_target_is_loaded(
    run: Callable, film: Path, pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    monkeypatch.setattr(
        "transformers.AutoModelForImageTextToText.from_pretrained", raising(AssertionError("weights were loaded"))
    )
    result = run("generate", film, "what?", "--target", pair / "target", "--draft", tmp_path)
    assert result.exit_code == 2
    assert "qwen2" in result.stderr


def test_a_comparison_is_written_before_it_is_shown(
    run: Callable, film: Path, small: list, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("specvlm.cli.tables.of_arms", raising(RuntimeError("no table")))
    result = run("compare", film, "what?", *small, "--arms", "ar,loop", "--json")
    assert result.exit_code == 70
    assert [arm["arm"] for arm in json.loads(result.stdout)["arms"]] == ["ar", "loop"]
