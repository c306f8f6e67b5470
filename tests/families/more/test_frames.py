"""Frames of files: those of the family's own processor, and their tensors, for the same options."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.video_utils import VideoMetadata

import tiny
import video_zoo as zoo
from specvlm.errors import OptionError
from specvlm.families import FAMILIES, Family
from specvlm.video import Timeline, load
from specvlm.video.sampling import checked

FILMS: dict[str, dict[str, Any]] = {
    "ntsc.mp4": {"rate": Fraction(30000, 1001)},
    "cinema.mp4": {"rate": 24, "num_frames": 100},
    "one.mp4": {"num_frames": 1},
}
OPTIONS: list[dict[str, Any]] = [{"num_frames": 1}, {"num_frames": 7}, {"num_frames": 8}, {"fps": 2}, {"fps": 3.7}]


def heeded(name: str) -> list[dict[str, Any]]:
    """Options that the family's processor heeds, and none, where it has defaults."""
    heeds = FAMILIES[name].heeds
    return OPTIONS if heeds is None else [*(each for each in OPTIONS if each.keys() <= set(heeds)), {}]


NAMES = (*tiny.MORE, *tiny.RECURRENT)
CELLS = [(name, film, options) for name in NAMES for film in FILMS for options in heeded(name)]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for name, recipe in FILMS.items():
        zoo.write(folder / name, **recipe)
    return folder


def nothing_else(ours: Family, options: dict[str, Any]) -> dict[str, Any]:
    """Processors that take one option alone get no default of the other."""
    return options if ours.heeds is not None else {"num_frames": None, "fps": None} | options


@lru_cache
def family(name: str) -> Family:
    return tiny.family(tiny.model(name))


def by_transformers(processor: Any, path: Path, options: dict[str, Any]) -> Any:
    """The whole video decoded, and sampled by the processor: what a user of transformers gets.

    As a tensor: of an array InternVL's takes no single frame, since what it counts with is a tensor of one number.
    """
    frames, _ = zoo.decode_all(path)
    video = load(path, num_frames=1)
    metadata = VideoMetadata(total_num_frames=len(frames), fps=video.source_fps, duration=video.duration)
    return processor(
        videos=[torch.tensor(frames).permute(0, 3, 1, 2)],
        video_metadata=[metadata],
        do_sample_frames=True,
        return_metadata=True,
        return_tensors="pt",
        **options,
    )


def by_us(ours: Family, path: Path, options: dict[str, Any]) -> Any:
    video = load(path, choose=ours.sampling(**options))
    return ours.video_processor(
        videos=[np.array(video.frames)],
        video_metadata=[video.metadata()],
        do_sample_frames=False,
        return_metadata=True,
        return_tensors="pt",
    )


@pytest.mark.part(2)
@pytest.mark.parametrize(("name", "film", "options"), CELLS, ids=str)
def test_tensors_are_those_of_the_stock_processor(name: str, film: str, options: dict[str, Any], films: Path) -> None:
    """Where it has an answer. Where it has none, all frames of the video, or an error of ours; where it merges two and
    there is one, that one twice."""
    ours = family(name)
    try:
        theirs = by_transformers(ours.video_processor, films / film, nothing_else(ours, options))
        if len(theirs["video_metadata"][0].frames_indices) == 0:
            raise ValueError("no frame, and no word about it: so in transformers 5.20.0")
    except (ValueError, ZeroDivisionError, IndexError, RuntimeError):
        if ours.heeds is not None:
            assert film == "one.mp4"
            with pytest.raises(OptionError, match=r"no frame of a video this short: 1 in 0\.0333 s"):
                by_us(ours, films / film, options)
        else:
            merged = getattr(ours.video_processor, "temporal_patch_size", 1)
            assert film == "one.mp4" or (merged == 2 and options == {"num_frames": 1})
            chosen = list(by_us(ours, films / film, options)["video_metadata"][0].frames_indices)
            assert chosen == [chosen[0]] * merged
            assert film != "one.mp4" or chosen[0] == 0
        return
    mine = by_us(ours, films / film, options)
    for key in theirs.keys() - {"video_metadata"}:
        assert torch.equal(mine[key], theirs[key]), key
    (told,), (known,) = mine["video_metadata"], theirs["video_metadata"]
    assert list(told.frames_indices) == list(known.frames_indices)
    assert (told.total_num_frames, told.fps) == (known.total_num_frames, known.fps)


@pytest.mark.parametrize("name", NAMES)
def test_other_frames_would_be_noticed(name: str, films: Path) -> None:
    ours = family(name)
    options = next(each for each in heeded(name) if each != {"num_frames": 1})  # too few for Qwen3.5's own
    theirs = by_transformers(ours.video_processor, films / "cinema.mp4", nothing_else(ours, options))
    first = load(films / "cinema.mp4", choose=lambda line: np.arange(2))
    off = ours.video_processor(
        videos=[np.array(first.frames)], video_metadata=[first.metadata()], do_sample_frames=False, return_tensors="pt"
    )
    assert any(mine.shape != theirs[key].shape for key, mine in off.items() if isinstance(mine, torch.Tensor))


@pytest.mark.parametrize("name", NAMES)
def test_a_source_without_a_clock_is_asked_for_one(name: str) -> None:
    ours = family(name)
    with pytest.raises(OptionError, match="clock"):
        ours.sampling(**{"fps": 2} if ours.heeds is None else {})(Timeline(100))


CLOCKED = [name for name in tiny.MORE if FAMILIES[name].heeds is not None]


@pytest.mark.parametrize("name", CLOCKED)
@given(total=st.integers(1, 2000), rate=st.sampled_from([1.0, 24.0, 30000 / 1001]), fps=st.floats(0.05, 70))
def test_indices_are_those_of_the_stock_processor(name: str, total: int, rate: float, fps: float) -> None:
    ours, line = family(name), Timeline.regular(total, rate)
    told = VideoMetadata(total, fps=rate, duration=total / rate)
    for options in ({}, {"fps": fps}, {"num_frames": 7}):
        if options.keys() <= set(ours.heeds or ()):
            theirs = np.asarray(ours.video_processor.sample_frames(told, **options))
            if len(theirs) == 0:
                with pytest.raises(OptionError, match="no frame of a video this short"):
                    ours.sampling(**options)(line)
                continue
            chosen = ours.sampling(**options)(line)
            assert chosen.tolist() == theirs.tolist()
            assert checked(ours.sampling(**options))(line).tolist() == chosen.tolist()


@pytest.mark.parametrize("name", CLOCKED)
def test_options_that_are_passed_over_are_refused_by_name(name: str) -> None:
    ours = family(name)
    for option in {"num_frames", "fps", "max_frames"} - set(ours.heeds or ()):
        with pytest.raises(OptionError, match=f"{option}=3: the video processor passes it over"):
            ours.sampling(**{option: 3})
    with pytest.raises(OptionError, match="num_frames must be"):
        ours.sampling(num_frames=0)
