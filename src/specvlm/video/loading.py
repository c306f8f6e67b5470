"""load: whatever a video comes in becomes a `Video`."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from specvlm.errors import OptionError, VideoError
from specvlm.video.clip import Video
from specvlm.video.container import blaming
from specvlm.video.decoding import decode
from specvlm.video.sampling import Rate, Sampling, Timeline, require_rate
from specvlm.video.stills import pick, picture_files

DEFAULT_NUM_FRAMES = 32


def load(
    source: Any,
    *,
    num_frames: int | None = None,
    fps: Rate | None = None,
    max_frames: int | None = None,
    source_fps: Rate | None = None,
) -> Video:
    """Read the frames of a video that a model shall look at.

    `source` is one of

    - a path to a video file (anything that FFmpeg reads; the content decides, not the name), or its bytes,
    - an open binary file: read from its first byte, left open and where it stood (unless it can't seek),
    - a folder of pictures: the frames in natural order (frame2 before frame10),
    - an array or tensor [T, H, W, 3] or [T, 3, H, W], uint8 or floats in 0..1,
    - a list of pictures of one size: arrays, tensors, PIL images, paths,
    - a `Video`, to choose among its frames.

    Frames are chosen by one of

    - `num_frames`, spread evenly over the frames: `np.linspace(0, total - 1, num_frames, dtype=int)`, which
      rounds down, as LLaVA-NeXT does. A shorter video gives all its frames; none is ever repeated;
    - `fps`, the frames nearest to k / fps seconds by their real times, whatever the container says its rate is.

    `max_frames` bounds either one (a choice by `fps` is thinned evenly). Given neither, files and folders give
    `DEFAULT_NUM_FRAMES` evenly spread; frames that are in memory already are all taken. `source_fps` gives a clock
    to a source that has none (arrays, lists, folders).

    Of a damaged or truncated file the frames are chosen among those that exist, and `Video.damage` says what is
    missing; it is an error only if there are none. Pixels are as stored: see `decoding.decode` for what is
    done to them (rotation is) and what isn't (pixel aspect isn't).

    Raises `OptionError` for options out of range or in contradiction, `VideoError` for a source that can't be read.
    """
    sampling = Sampling(num_frames=num_frames, fps=fps, max_frames=max_frames)
    require_rate("source_fps", source_fps)
    if isinstance(source, Video):
        return _with_clock(source, source_fps).sampled(sampling)
    if isinstance(source, np.ndarray | Tensor):
        return _from_stills(source, f"the {type(source).__name__} of shape {list(source.shape)}", sampling, source_fps)
    if isinstance(source, list | tuple):
        return _from_stills(source, f"the list of {len(source)} pictures", sampling, source_fps)
    if num_frames is None and fps is None:
        sampling = replace(sampling, num_frames=DEFAULT_NUM_FRAMES)
    if isinstance(source, str | os.PathLike):
        return _from_path(os.fsdecode(source), sampling, source_fps)
    if isinstance(source, bytes | bytearray | memoryview):
        name = f"the video of {len(source)} bytes"
        _refuse_second_clock(name, source_fps)
        return decode(io.BytesIO(source), name, sampling)
    if hasattr(source, "read"):
        _refuse_second_clock("the open file", source_fps)
        return _from_open_file(source, sampling)
    raise VideoError(
        f"a video can't be read from an object of type {type(source).__name__}: "
        "expected a path, bytes, an open binary file, an array, a tensor, a list of pictures or a Video"
    )


def _from_stills(frames: Any, name: str, sampling: Sampling, source_fps: Rate | None) -> Video:
    if len(frames) == 0:
        raise VideoError(f"{name} holds no frames")
    timeline = Timeline.regular(len(frames), source_fps)
    chosen = sampling.choose(timeline)
    return replace(Video.chosen(pick(frames, chosen, name), timeline, chosen, name), source_fps=source_fps)


def _from_path(name: str, sampling: Sampling, source_fps: Rate | None) -> Video:
    path = Path(name)
    with blaming(name):
        if not name or not path.exists():
            hint = " (nothing is fetched from URLs: download it first)" if "://" in name else ""
            raise VideoError(f"there is no file {name!r}{hint}")
        if path.is_dir():
            return _from_stills(picture_files(path), name, sampling, source_fps)
        if not path.is_file():
            raise VideoError(f"{name} is neither a file nor a folder: open it yourself and pass the open file")
        _refuse_second_clock(name, source_fps)
        with path.open("rb") as file:
            return decode(file, name, sampling)


def _from_open_file(file: Any, sampling: Sampling) -> Video:
    name = file.name if isinstance(getattr(file, "name", None), str) else "the open file"
    with blaming(name):
        if not isinstance(file.read(0), bytes):
            raise VideoError(f"{name} is open as text: open it with mode 'rb'")
        try:
            position = file.tell()
            file.seek(position)
        except (AttributeError, OSError):  # a pipe can't go back: keep what it gives
            return decode(io.BytesIO(file.read()), name, sampling)
        try:
            return decode(file, name, sampling)
        finally:
            file.seek(position)


def _with_clock(video: Video, source_fps: Rate | None) -> Video:
    if source_fps is None:
        return video
    if video.timestamps is not None:
        _refuse_second_clock(video.name, source_fps)
    timeline = Timeline.regular(len(video.frames), source_fps)
    return replace(video, timestamps=timeline.seconds, duration=timeline.duration, source_fps=source_fps)


def _refuse_second_clock(name: str, source_fps: Rate | None) -> None:
    if source_fps is not None:
        raise OptionError(f"source_fps={source_fps!r} is for sources without a clock, and {name} has one: leave it out")
