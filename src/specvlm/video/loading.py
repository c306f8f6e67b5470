"""load: whatever a video comes in becomes a `Video`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from specvlm.errors import OptionError, VideoError, brief
from specvlm.names import VideoBackend
from specvlm.video.backends import require_backend
from specvlm.video.clip import Video
from specvlm.video.decoding import decode, decode_before
from specvlm.video.files.addresses import resolved
from specvlm.video.files.container import BinaryFile, blaming
from specvlm.video.files.doors import binary, existing
from specvlm.video.sampling import DEFAULT_NUM_FRAMES, Choose, Rate, Sampling, Timeline, checked, require_rate
from specvlm.video.screening.programme import Audience, Programme
from specvlm.video.stills import pick, picture_files, show

Read = TypeVar("Read")
"""What a file is read as."""


def load(
    source: Any,
    *,
    num_frames: int | None = None,
    fps: Rate | None = None,
    max_frames: int | None = None,
    source_fps: Rate | None = None,
    choose: Choose | None = None,
    backend: VideoBackend = "auto",
) -> Video:
    """Read the frames of a video that a model shall look at.

    `source` is one of

    - a path to a video file (anything that FFmpeg reads; the content decides, not the name), or its bytes; moving
      pictures (GIF, APNG, WebP, AVIF) are videos, the pages of a TIFF are not,
    - a `file:` or `data:` URI that names or holds one (nothing is ever fetched),
    - an open binary file: read from its first byte, left open and where it stood (unless it can't seek),
    - a folder of pictures: the frames in natural order (frame2 before frame10),
    - an array or tensor [T, H, W, 3] or [T, 3, H, W], uint8 or floats in 0..1,
    - a list of pictures of one size, each whatever `load_image` takes,
    - a `Video`, to choose among its frames.

    Frames are chosen by one of

    - `num_frames`, spread evenly over the frames: `np.linspace(0, total - 1, num_frames, dtype=int)`, which
      rounds down, as LLaVA-NeXT does. A shorter video gives all its frames; none is ever repeated;
    - `fps`, the frames nearest to k / fps seconds by their real times, whatever the container says its rate is;
    - `choose`, a rule of your own: it is told the source's `Timeline` (num_frames, seconds, duration, fps) and returns
      the indices of the frames to take, at least one, never falling. A frame that it names twice comes twice.
      `processor_sampling` makes the rule of a checkpoint's own video processor.

    `max_frames` bounds either of the first two (a choice by `fps` is thinned evenly). Given none of these, files and
    folders give `DEFAULT_NUM_FRAMES` evenly spread; frames that are in memory already are all taken. `source_fps` gives
    a clock to a source that has none (arrays, lists, folders).

    Of a damaged or truncated file the frames are chosen among those that exist, and `Video.damage` says what is
    missing; it is an error only if there are none. Pixels are as stored: see `decoding.decode` for what is
    done to them (rotation is) and what isn't (pixel aspect isn't).

    `backend` says who decodes the frames of a file, once PyAV has found out which there are:

    - "auto", which is the one that is right everywhere, and the fastest: "pyav";
    - "pyav";
    - "straight": PyAV, but every frame of the file is decoded, also those that nobody asked for and no other refers to,
      so that what is damaged anywhere is told of, as far as a decoder notices; slower;
    - "torchcodec": torchcodec, which rounds some colours differently (more than 8 bits, odd sizes); still PyAV where
      torchcodec fails, for files that are known to be damaged, and in containers where it seeks to other frames than
      those asked for (all but MP4 and its kin, Matroska and WebM).

    "pyav" notices a frame that is damaged inside, in a file that is whole outside, if it has to decode it (it is
    wanted, or others refer to it) and if there is anything to notice: docs/reliability.md. torchcodec hands such a
    frame out as FFmpeg patched it up, and `Video.damage` may stay None.

    Raises `OptionError` for options out of range or in contradiction, `VideoError` for a source that can't be read or
    whose frames would take more memory than any video should (`room.MAX_PIXELS`).
    """
    sampling = Sampling(num_frames=num_frames, fps=fps, max_frames=max_frames)
    rule = sampling.choose if choose is None else _alone(choose, sampling)
    given_none = choose is None and num_frames is None and fps is None
    of_files = replace(sampling, num_frames=DEFAULT_NUM_FRAMES).choose if given_none else rule
    require_backend(backend)
    read = partial(_decoded, backend=backend)
    return _loaded(source, rule, of_files, source_fps, read, _from_stills)


def _decoded(file: BinaryFile, name: str, choose: Choose, backend: VideoBackend) -> Video:
    return decode(file, name, choose, backend)


def load_before(
    audience: Audience, source: Any, *, choose: Choose, source_fps: Rate | None = None, backend: VideoBackend = "auto"
) -> Video | None:
    """`load`, but frames that a file's decoder hands out in order, and the pictures of a folder, are shown to the
    audience, one by one. None if it was shown them all; otherwise the video, whole, and what was shown before is
    void."""
    rule = checked(choose)
    require_backend(backend)
    read = partial(decode_before, audience, backend=backend)
    return _loaded(source, rule, rule, source_fps, read, partial(_shown_stills, audience))


def _loaded(
    source: Any,
    rule: Choose,
    of_files: Choose,
    source_fps: Rate | None,
    read: Callable[[BinaryFile, str, Choose], Read],
    look_through: Callable[[list[Path], str, Choose, Rate | None], Video | Read],
) -> Video | Read:
    """A source that holds frames, with those of `rule`, or a file as it is read, a folder of pictures as it is looked
    through. `of_files` is the rule for what has to be decoded."""
    require_rate("source_fps", source_fps)
    source = resolved(source)
    if isinstance(source, Video):
        return _with_clock(source, source_fps).sampled(rule)
    if isinstance(source, np.ndarray | Tensor):
        return _from_stills(source, f"the {type(source).__name__} of shape {list(source.shape)}", rule, source_fps)
    if isinstance(source, list | tuple):
        return _from_stills(source, f"the list of {len(source)} pictures", rule, source_fps)
    if isinstance(source, str | os.PathLike):
        name = os.fsdecode(source)
        with blaming(name):
            files = picture_files(path) if (path := existing(name)).is_dir() else None
        if files is not None:
            return look_through(files, brief(name), of_files, source_fps)
    elif not isinstance(source, bytes | bytearray | memoryview) and not hasattr(source, "read"):
        raise VideoError(
            f"a video can't be read from an object of type {type(source).__name__}: "
            "expected a path, bytes, an open binary file, an array, a tensor, a list of pictures or a Video"
        )
    with binary(source, "video") as (file, name):
        _refuse_second_clock(name, source_fps)
        return read(file, name, of_files)


def _alone(choose: Choose, sampling: Sampling) -> Choose:
    """The caller's own rule, checked. `OptionError` if there is another one beside it."""
    given = [f"{name}={brief(repr(value))}" for name, value in asdict(sampling).items() if value is not None]
    if given:
        raise OptionError(f"choose decides alone which frames are taken: leave out {' and '.join(given)}")
    return checked(choose)


def _from_stills(frames: Any, name: str, choose: Choose, source_fps: Rate | None) -> Video:
    if len(frames) == 0:
        raise VideoError(f"{name} holds no frames")
    timeline = Timeline.regular(len(frames), source_fps)
    chosen = choose(timeline)
    return replace(Video.chosen(pick(frames, chosen, name), timeline, chosen, name), source_fps=source_fps)


def _shown_stills(
    audience: Audience, files: list[Path], name: str, choose: Choose, source_fps: Rate | None
) -> Video | None:
    """`_from_stills`, but the pictures are shown to an audience. None if it was shown them all."""
    timeline = Timeline.regular(len(files), source_fps)
    chosen = choose(timeline)
    places, rows = np.unique(chosen, return_inverse=True)
    wall = audience.told(Programme(timeline, chosen, rows, name, source_fps=source_fps))
    if show(files, wall, places, name) and wall.is_full:
        return None
    return _from_stills(files, name, lambda _: chosen, source_fps)


def _with_clock(video: Video, source_fps: Rate | None) -> Video:
    if source_fps is None:
        return video
    if video.timestamps is not None:
        _refuse_second_clock(video.name, source_fps)
    timeline = Timeline.regular(video.total_frames, source_fps)
    seconds = None if timeline.seconds is None else timeline.seconds[video.indices]
    return replace(video, timestamps=seconds, duration=timeline.duration, source_fps=source_fps)


def _refuse_second_clock(name: str, source_fps: Rate | None) -> None:
    if source_fps is not None:
        raise OptionError(
            f"source_fps={brief(repr(source_fps))} is for pictures without a clock, and {name} has its own times: "
            "leave it out"
        )
