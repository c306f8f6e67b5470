"""Help that fits a screen, examples that can be typed, and the shell's completion."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from typer.main import get_command

from specvlm.cli import app
from specvlm.cli.commands.bench import PairName
from specvlm.cli.commands.evaluate import TaskName
from specvlm.cli.help import ALL, HELP_ALL, USUAL, first_sentence, groups
from specvlm.evals.reporting.convert import FORMS
from specvlm.evals.tasks import TASKS
from specvlm.evals.tasks.base import PromptName
from specvlm.pocket import FAMILIES

COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def shown(parameter: Any) -> list[str]:
    return [*parameter.opts, *parameter.secondary_opts]


def options(command: str) -> list[Any]:
    return [each for each in COMMANDS[command].params if each.param_type_name == "option"]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_a_screen(run: Callable, command: str) -> None:
    text = run(*command.split(), "--help").stdout
    assert text.count("\n") < 60
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "…" not in text


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_the_usual_groups_and_names_the_others(run: Callable, command: str) -> None:
    text = run(command, "--help").stdout
    found = groups(COMMANDS[command].params)
    folded = " ".join(text.split())
    for name, parameters in found.items():
        if f"\n{name}:\n" in text:
            assert all(each.param_type_name == "argument" or each.opts[0] in text.split() for each in parameters)
        else:
            assert name in folded.partition(f"More with {ALL}: ")[2]
    assert all(f"\n{name}:\n" in text for name in USUAL[:3] if name in found)


@pytest.mark.parametrize("command", [name for name in COMMANDS if any(p.name == HELP_ALL.name for p in options(name))])
def test_help_all_shows_every_option_and_all_of_its_text(run: Callable, command: str) -> None:
    result = run(command, ALL)
    assert result.exit_code == 0
    assert all(len(line) <= 80 for line in result.stdout.splitlines())
    words = result.stdout.split()
    for each in options(command):
        assert set(shown(each)) <= {word.strip(",;") for word in words}
        assert all(word in words for word in each.help.split() if "-" not in word)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_examples_of_a_command_can_be_typed(command: str) -> None:
    _, _, examples = COMMANDS[command].help.partition("Examples:\n")
    lines = [shlex.split(line.partition("<")[0], comments=True) for line in examples.strip().splitlines()]
    assert 1 <= len(lines) <= 2
    for program, name, *arguments in lines:
        assert (program, name) == ("specvlm", command)
        COMMANDS[command].make_context(command, arguments)


@pytest.mark.parametrize(
    ("command", "option", "known"),
    [
        ("eval", "task", tuple(TASKS)),
        ("eval", "prompt", get_args(PromptName)),
        ("demo", "family", FAMILIES),
        ("convert", "to", tuple(FORMS)),
    ],
)
def test_choices_are_the_librarys(run: Callable, command: str, option: str, known: tuple[str, ...]) -> None:
    """In whatever order: one that is added to the library and not here could not be asked for."""
    needed = {"eval": ("--out", "run"), "convert": ("run",)}.get(command, ())
    result = run(command, *needed, f"--{option}", "sideways")
    assert result.exit_code == 2
    assert all(f"'{name}'" in result.stderr for name in known)
    assert result.stderr.count("'") == 2 * (2 + len(known))


def test_long_choices_are_in_the_text(run: Callable) -> None:
    for command, names in (("eval", get_args(TaskName)), ("bench", get_args(PairName))):
        text = "".join(run(command, "--help").stdout.split())
        assert ",".join(names) in text


def test_what_typer_refuses_is_one_line(run: Callable) -> None:
    for arguments in (("generate",), ("generate", "--fsp", "2"), ("genrate",), ("eval", "--out", "x", "--engine", "y")):
        result = run(*arguments)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1), arguments
        assert result.stderr.startswith("error: ")
        assert "--help)" in result.stderr


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("One. Two.", "One."),
        ("One, as in e.g. this. `Two`.  [default: a. B]", "One, as in e.g. this.  [default: a. B]"),
        ("`a`, `b`, ... (with c). More.", "`a`, `b`, ... (with c)."),
        ("No stop", "No stop"),
    ],
)
def test_first_sentence(text: str, first: str) -> None:
    assert first_sentence(text) == first


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[str]]:
    """What bash offers for the last of some words, by the script that `--show-completion` prints."""
    program = tmp_path_factory.mktemp("bin") / "specvlm"
    code = "import sys; from specvlm.cli import main\ntry: main()\nfinally: assert 'torch' not in sys.modules"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(code)} "$@"\n')
    program.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    naming = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    asked = [program, "--show-completion", "bash"]
    script = subprocess.run(asked, env=environment | naming, capture_output=True, text=True, check=True).stdout
    [function] = [line.split("()")[0] for line in script.splitlines() if line.endswith("() {")]
    assert f"{function} specvlm" in script.splitlines()[-1]

    def offered(*words: str) -> list[str]:
        line = " ".join(shlex.quote(word) for word in ("specvlm", *words))
        asked = f"COMP_WORDS=({line}); COMP_CWORD={len(words)}; {function} specvlm; echo ${{COMPREPLY[@]}}"
        process = subprocess.run(
            ["bash", "--norc", "-c", f"{script}\n{asked}"], env=environment, capture_output=True, text=True
        )
        assert process.stderr == ""
        return process.stdout.split()

    return offered


class TestCompletion:
    def test_commands(self, complete: Callable) -> None:
        assert complete("") == list(COMMANDS)
        assert complete("p") == ["plan", "pruners"]

    def test_options_the_rare_ones_too(self, complete: Callable) -> None:
        every = [name for each in options("generate") for name in shown(each)]
        assert complete("generate", "film.mp4", "--") == [*every, "--help"]
        assert set(complete("generate", "--min-p")) == {"--min-p", "--min-pixels"}

    def test_choices(self, complete: Callable) -> None:
        assert complete("generate", "film.mp4", "what?", "--vision", "s") == ["shared", "spared"]
        assert complete("eval", "--task", "m") == ["mvbench", "mlvu"]
        assert set(complete("bench", "--pair", "")) == set(get_args(PairName))


def test_help_is_made_without_pytorch(tmp_path: Path) -> None:
    script = """
import sys
from typer.testing import CliRunner
from specvlm.cli import app
for arguments in ("", "--help", "generate --help", "generate --help-all", "sweep --help", "bench -h"):
    assert CliRunner().invoke(app, arguments).exit_code in (0, 2), arguments
    assert not {"torch", "transformers", "av", "rich"} & sys.modules.keys(), arguments
"""
    subprocess.run([sys.executable, "-c", script], check=True, env={"PYTHONPATH": ":".join(sys.path)})
