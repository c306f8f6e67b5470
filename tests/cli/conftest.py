"""A tiny pair on disk, a small film, and a way to run commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import PreTrainedModel
from typer.testing import CliRunner

import video_zoo
from specvlm.cli import app
from tiny import llava_model, llava_processor, noised


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with checkpoints `target` and `draft`."""
    folder = tmp_path_factory.mktemp("pair")
    model = llava_model(seed=1)
    save(model, folder / "target")
    save(noised(model, 0.05), folder / "draft")
    return folder


def save(model: PreTrainedModel, folder: Path) -> None:
    model.save_pretrained(folder)
    llava_processor().save_pretrained(folder)


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return video_zoo.write(tmp_path_factory.mktemp("film") / "film.mp4", 12)


@pytest.fixture
def run() -> Callable:
    """Run a command in this process; the result has `exit_code`, `stdout` and `stderr`."""

    def invoke(*arguments: object, stdin: bytes | None = None):
        return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)

    return invoke


@pytest.fixture
def small(pair: Path) -> list[object]:
    """Options that make any command quick."""
    return [
        *("--target", pair / "target", "--draft", pair / "draft", "--dtype", "float32", "--device", "cpu"),
        *("--num-frames", 4, "--max-new-tokens", 12),
    ]
