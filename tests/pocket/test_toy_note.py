"""Nobody mistakes the toy for a model: it says so of any video but those of its own world."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import specvlm
import tiny
import video_zoo
from specvlm import pocket, video
from specvlm.cli import app
from specvlm.errors import PocketWarning
from specvlm.families import Family
from specvlm.pipeline import SpecVLM

NOTE = "the embedded pocket pair is a toy"
ASKED = {"num_frames": 4, "max_new_tokens": 2}
SMALL = ("--num-frames", "4", "--max-new-tokens", "2")


@pytest.fixture(scope="module")
def loaded() -> Family:
    return specvlm.load("pocket").target


@pytest.fixture
def vlm(loaded: Family) -> SpecVLM:
    """Of which nothing was told so far."""
    return SpecVLM(type(loaded)(loaded.model, loaded.processor, loaded.name))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pocket.demo_video(tmp_path_factory.mktemp("film") / "demo.mp4")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return video_zoo.write(tmp_path_factory.mktemp("film") / "own.mp4", 12)


def test_films_of_its_own_world_are_signed(demo: Path, own: Path):
    for source in (demo, demo.read_bytes()):
        assert video.load(source, num_frames=2).comment == pocket.SIGNED
    assert video.load(own).comment is None


def test_of_these_it_says_nothing(vlm: SpecVLM, demo: Path):
    """Warnings are errors in tests."""
    for film in (demo, demo.read_bytes(), vlm.load_video(demo, num_frames=4), None):
        assert vlm.generate(film, "Describe the video in detail.", **ASKED).token_ids


@pytest.mark.parametrize("way", ["path", "bytes", "frames", "loaded", "beside the demo film"])
def test_of_any_other_it_warns(way: str, demo: Path, own: Path, vlm: SpecVLM):
    frames = np.zeros((4, 32, 32, 3), np.uint8)
    film = {"path": own, "bytes": own.read_bytes(), "frames": frames, "loaded": vlm.load_video(own)}.get(way, demo)
    more = ()
    if way == "beside the demo film":
        vlm, more = specvlm.load("pocket-qwen2_5_vl").without_draft(), (str(own),)
    with pytest.warns(PocketWarning, match=NOTE):
        vlm.generate(film, "What happens?", more_videos=more, **ASKED)
    vlm.without_draft().generate(film, "And then?", more_videos=more, **ASKED)  # once: a second warning is an error


def test_a_picture_is_none_of_its_world_either():
    vlm = specvlm.load("pocket-qwen2_5_vl").without_draft()
    with pytest.warns(PocketWarning, match=NOTE):
        vlm.generate(None, "What is it?", images=(tiny.image(0, 64, 64),), **ASKED)


def test_a_model_object_of_it_is_known_and_others_are_not_taken_for_it(vlm: SpecVLM, own: Path, tmp_path: Path):
    with pytest.warns(PocketWarning):
        SpecVLM(specvlm.load(vlm.target.model).target).generate(own, "What happens?", **ASKED)
    vlm.target.model.save_pretrained(tmp_path)
    vlm.target.processor.save_pretrained(tmp_path)
    other = specvlm.load(tmp_path)
    for film in (own, np.zeros((4, 32, 32, 3), np.uint8)):
        assert other.generate(film, "What happens?", **ASKED).token_ids  # a checkpoint of the user's own


def test_it_is_silenced_by_its_category(vlm: SpecVLM, own: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", specvlm.PocketWarning)
        assert vlm.generate(own, "What happens?", **ASKED).token_ids


def test_python_shows_it_once(own: Path):
    script = f"""
import specvlm
vlm = specvlm.load("pocket").without_draft()
for question in ("What happens?", "And then?"):
    vlm.generate({str(own)!r}, question, num_frames=4, max_new_tokens=2)
"""
    ran = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stderr.count(NOTE) == 1


@pytest.mark.parametrize(("command", "more"), [("generate", ["And then?"]), ("compare", ["--arms", "loop"])])
def test_commands_say_it_in_one_line(command: str, more: list[str], demo: Path, own: Path):
    def told(film: Path) -> str:
        result = CliRunner().invoke(app, [command, str(film), "What happens?", *more, *SMALL])
        assert result.exit_code == 0, result.output
        return result.stderr

    assert told(demo) == ""
    line = told(own)
    assert line.startswith(f"warning: {NOTE}")
    assert line.count("\n") == 1
