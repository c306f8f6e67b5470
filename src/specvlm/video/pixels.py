"""From decoded frames to pixels that stand upright."""

from __future__ import annotations

from threading import Lock
from typing import Protocol, runtime_checkable

import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8

from specvlm.video.room import require_all


@runtime_checkable
class Wall(Protocol):
    """Where frames go that come out of a decoder."""

    def hang(self, row: int, frame: VideoFrame, reformatter: VideoReformatter) -> bool:
        """Whether it could be. A reformatter belongs to one thread."""
        ...

    def give_up(self) -> None:
        """What hangs there may be wrong, and no more will come."""
        ...

    @property
    def is_full(self) -> bool:
        """Whether every frame wanted has come."""
        ...


class Gallery:
    """The frames wanted, each put in its place as it comes along, by several threads maybe. The size of all is that of
    the first to arrive."""

    def __init__(self, num_frames: int, name: str, is_one_size: bool = False) -> None:
        """If `is_one_size`, what has another one than the first isn't scaled, but refused."""
        self._name, self._is_one_size = name, is_one_size
        self._missing = set(range(num_frames))
        self._pixels = np.empty((num_frames, 0, 0, 3), np.uint8)
        self._size = (0, 0)
        self._lock = Lock()

    def hang(self, row: int, frame: VideoFrame, reformatter: VideoReformatter) -> bool:
        """Whether it could be. A reformatter belongs to one thread."""
        is_first = self._pixels.size == 0
        size = (frame.width, frame.height)
        if is_first:
            require_all(len(self._pixels), *size, self._name)
        pixels = upright(frame, *(size if is_first or self._is_one_size else self._size), reformatter)
        with self._lock:
            if self._pixels.size == 0:
                self._pixels, self._size = np.empty((len(self._pixels), *pixels.shape), np.uint8), size
        if self._pixels.shape[1:] != pixels.shape:
            return False
        self._pixels[row] = pixels
        self._missing.discard(row)
        return True

    def give_up(self) -> None:
        """Nobody waits for anything here."""

    @property
    def is_full(self) -> bool:
        return not self._missing

    def frames(self) -> UInt8[np.ndarray, "chosen H W 3"] | None:
        """All the frames, or None if one never came."""
        return None if self._missing else self._pixels


def upright(frame: VideoFrame, width: int, height: int, reformatter: VideoReformatter) -> UInt8[np.ndarray, "H W 3"]:
    """The frame as RGB, scaled to `width` x `height`, then turned and mirrored as its display matrix asks.

    The matrix maps stored (x, y) to shown (a x + c y, b x + d y). Angles between the quarter turns are taken for
    the nearest one.
    """
    # In one thread: threads of swscale take longer to begin than to work.
    pixels = reformatter.reformat(frame, width, height, "rgb24", threads=1).to_ndarray()
    a, b, c, d = _display_matrix(frame)
    if abs(b) > abs(a):
        pixels, a, d = pixels.transpose(1, 0, 2), c, b
    return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _display_matrix(frame: VideoFrame) -> tuple[int, int, int, int]:
    try:
        # Not `frame.side_data`: that and the frame would hold each other, and with them the buffers and the threads of
        # the decoder, until the garbage collector comes; after a fork it would wait for threads that aren't there.
        matrix = SideDataContainer(frame).get("DISPLAYMATRIX")  # type: ignore[call-arg]
    except ValueError:
        # PyAV (up to 18.1) chokes on kinds of side data that it has no name for, such as a photo's EXIF. It still
        # tells the angle, though no longer whether the picture is mirrored.
        quarter_turns = round(frame.rotation / 90) % 4  # counterclockwise
        return ((1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0))[quarter_turns]
    if matrix is None:
        return 1, 0, 0, 1
    a, b, _, c, d, *_ = np.frombuffer(bytes(matrix), np.int32).tolist()
    return a, b, c, d
