"""The options of the command line are those of the library, without anybody repeating them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from typing import Any

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from specvlm.answering.options import Options
from specvlm.cli import app
from specvlm.cli.options import ONLY_IN_PYTHON, Answer, spread

GIVEN = {
    "plan": "fixed",
    "strict": True,
    "num_frames": 7,
    "source_fps": 12.5,
    "video_backend": "straight",
    "min_pixels": 3136,
    "max_pixels": 6272,
    "total_pixels": 99999,
    "more_videos": ("b.mp4", "c.mp4"),
    "images": ("d.png",),
    "prune_images": True,
    "vision": "spared",
    "self_scope": "head",
    "rounds": "device",
    "system": "Be brief.",
    "pruner": "window(where='back')",
    "pruning_ratio": 0.5,
    "positions": "compact",
    "tree": "dynamic",
    "depth": 3,
    "num_nodes": 9,
    "width": 2,
    "max_new_tokens": 5,
    "do_sample": True,
    "temperature": 0.7,
    "top_k": 4,
    "top_p": 0.8,
    "min_p": 0.1,
    "repetition_penalty": 1.2,
    "stop": ("one", "two"),
    "seed": 3,
    "prefill_chunk": 64,
}


def parse(*arguments: str) -> Options:
    """The options that a command would get."""
    caught: list[Options] = []

    @spread
    def command(*, answer: Answer) -> None:
        caught.append(answer.options())

    alone = typer.Typer()
    alone.command()(command)
    CliRunner().invoke(alone, list(arguments), catch_exceptions=False)
    return caught[0]


def flags(name: str, value: Any) -> list[str]:
    option = "--" + name.replace("_", "-")
    if isinstance(value, bool):
        return [option if value else option.replace("--", "--no-")]
    return [text for item in (value if isinstance(value, tuple) else (value,)) for text in (option, str(item))]


def test_nothing_given_is_the_librarys_default():
    assert parse() == Options()


def test_every_option_arrives():
    arguments = [text for name, value in GIVEN.items() for text in flags(name, value)]
    assert parse(*arguments) == Options(**GIVEN)
    assert parse("--fps", "2.5", "--no-do-sample") == Options(fps=2.5, do_sample=False)
    assert GIVEN.keys() | {"fps", *ONLY_IN_PYTHON} == {field.name for field in fields(Options)}


def test_a_tree_can_be_written_as_json():
    assert parse("--tree", "[[0], [1], [0, 0]]").tree_shape() == Options(tree=[(0,), (1,), (0, 0)]).tree_shape()


@pytest.mark.parametrize("command", ["generate", "compare"])
def test_every_field_is_an_option_with_a_help_text(command: str):
    """So a field that is added to Options without a docstring, or of a type that no text becomes, is noticed here."""
    parameters = {parameter.name: parameter for parameter in get_command(app).commands[command].params}
    for field in fields(Options):
        if field.name not in ONLY_IN_PYTHON:
            assert parameters[field.name].help
            assert parameters[field.name].default == field.default


def test_help_does_not_wait_for_pytorch():
    script = """
import sys
from typer.testing import CliRunner
from specvlm.cli import app
for arguments in (["--help"], ["--version"], ["generate", "--help"], ["compare", "--nonsense"], ["generate"]):
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == (2 if arguments[-1] in ("--nonsense", "generate") else 0), arguments
    assert not {"torch", "transformers", "av"} & sys.modules.keys(), arguments
"""
    subprocess.run([sys.executable, "-c", script], check=True, env={"PYTHONPATH": ":".join(sys.path)})
