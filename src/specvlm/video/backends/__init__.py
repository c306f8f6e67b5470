"""Who decodes the frames of a video file: one file for each backend, behind one contract."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import get_args

import numpy as np
from jaxtyping import Int64, UInt8

from specvlm.errors import OptionError, brief
from specvlm.names import VideoBackend
from specvlm.video.backends import pyav, torchcodec
from specvlm.video.files.container import VideoFile
from specvlm.video.files.packets import Scan
from specvlm.video.pictures import read_photo

Reader = Callable[
    [VideoFile, Scan, Int64[np.ndarray, " chosen"]],
    UInt8[np.ndarray, "chosen H W 3"] | None,
]
"""The frames at increasing places of the scan's timeline; None if the reader can't be sure of them."""

READERS: dict[VideoBackend, tuple[Reader, ...]] = {
    "auto": (pyav.read,),
    "pyav": (pyav.read,),
    "straight": (pyav.read_straight,),
    "torchcodec": (torchcodec.read, pyav.read),
}


def require_backend(backend: str) -> None:
    """Raise `OptionError` for a backend that there isn't, or isn't here."""
    if backend not in get_args(VideoBackend):
        raise OptionError(f"backend must be one of {', '.join(get_args(VideoBackend))}, not {brief(repr(backend))}")
    if backend == "torchcodec" and torchcodec.decoder_class() is None:
        raise OptionError(
            "backend='torchcodec' needs torchcodec and an FFmpeg that it can load (its versions 4 to 9, as shared "
            "libraries): install both, or use 'pyav'"
        )


def readers(scan: Scan, backend: VideoBackend) -> Sequence[Reader]:
    """Who is asked for frames, one after the other until one is sure of them."""
    return (read_photo, pyav.read) if scan.is_picture else READERS[backend]


def passes_by(scan: Scan, backend: VideoBackend) -> bool:
    """Whether the first to be asked is `pyav`, which can show frames one by one (`pyav.show`)."""
    return READERS[backend][0] is pyav.read and not scan.is_picture
