"""Which files are videos: whatever `load` would read as one that moves, found out as cheaply as it can be."""

from __future__ import annotations

import mimetypes
from functools import cache
from itertools import islice
from pathlib import Path, PurePath

import av
import numpy as np

from specvlm.errors import VideoError
from specvlm.video.files.container import VideoFile, blaming, demuxed
from specvlm.video.files.kernel import of_the_kernel
from specvlm.video.loading import load

MOVES = 2
"""Frames that a video has and a still picture hasn't."""


def is_video(path: Path) -> bool:
    """Whether there is more than one frame to see in a file. Of most files that takes a look at its head alone; only
    one that looks like a still is read, since it may be of a kind that FFmpeg doesn't see move."""
    name = str(path)
    if not path.is_file() or of_the_kernel(path):  # a pipe would have us wait
        return False
    try:
        with blaming(name), path.open("rb") as file, VideoFile(file, name).opened() as (container, stream):
            if len(list(islice(demuxed(container, stream), MOVES))) == MOVES:
                return True
        return load(path, choose=lambda timeline: np.zeros(1, dtype=np.int64)).total_frames >= MOVES
    except VideoError:
        return False


def is_called_a_video(name: str) -> bool:
    """Whether a name ends as those of videos do, by the system's list of media types."""
    kind, _ = mimetypes.guess_type(PurePath(name).name)
    return kind is not None and kind.startswith("video/")


@cache
def suffixes() -> frozenset[str]:
    """The endings of all files that this FFmpeg reads or writes, in lower case: `.mts`, `.webm`, and many that are of
    no video; and those of the system's list of media types. None is a number: `take.264` is somebody's own counting."""
    formats = []
    for name in av.formats_available:
        for mode in ("r", "w"):
            try:
                formats.append(av.ContainerFormat(name, mode))
            except ValueError:  # it does only the other
                continue
    known = {f".{ending.strip().lower()}" for each in formats for ending in each.extensions if not ending.isdigit()}
    mimetypes.init()
    return frozenset(known | {ending for ending in mimetypes.types_map if is_called_a_video(f"a{ending}")})
