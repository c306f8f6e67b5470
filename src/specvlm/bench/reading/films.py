"""Films of the usual kinds, rendered here: a camera that moves over a patterned ground, with things that move on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream
from jaxtyping import UInt8

FPS = 30
SIZES = {"720p": (1280, 720), "1080p": (1920, 1080)}
MARGIN = 320
"""Pixels that the camera may move to each side."""

SHORT, LONG = {"g": "30"}, {"g": "250"}


@dataclass(frozen=True)
class Film:
    """How a film is encoded."""

    codec: str
    size: str = "720p"
    suffix: str = "mp4"
    options: dict[str, str] = field(default_factory=dict)


X265 = "log-level=error:keyint={}"
FILMS = {
    "720p H.264": Film("libx264", options={"preset": "medium"}),  # x264's own defaults
    "720p H.264, short GOPs": Film("libx264", options=SHORT),
    "720p H.264, no B-frames": Film("libx264", options={"bf": "0"}),
    "1080p H.264": Film("libx264", "1080p"),
    "720p HEVC": Film("libx265", options={"preset": "fast", "x265-params": X265.format(250)}),
    "720p HEVC, short GOPs": Film("libx265", options={"preset": "fast", "x265-params": X265.format(30)}),
    "720p VP9": Film("libvpx-vp9", suffix="webm", options={"deadline": "realtime", "cpu-used": "7"} | LONG),
    "720p AV1": Film("libsvtav1", options={"preset": "11", "svtav1-params": "keyint=250"}),
}


def rendered(film: Film, seconds: float, path: Path) -> Path:
    """The film as a file at `path`."""
    width, height = SIZES[film.size]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(film.codec, rate=FPS, options=film.options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for pixels in _pictures(width, height, round(seconds * FPS)):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def _pictures(width: int, height: int, count: int) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    dice = np.random.default_rng(0)
    coarse = dice.integers(0, 256, ((height + 2 * MARGIN) // 16 + 1, (width + 2 * MARGIN) // 16 + 1, 3), np.uint8)
    fine = dice.integers(-12, 13, (height + 2 * MARGIN, width + 2 * MARGIN, 1))
    ground = coarse.repeat(16, 0).repeat(16, 1)[: height + 2 * MARGIN, : width + 2 * MARGIN]
    ground = (ground + fine).clip(0, 255).astype(np.uint8)
    for index in range(count):
        seconds = index / FPS
        across, down = (round(MARGIN * (1 + np.sin(rate * seconds))) for rate in (0.31, 0.23))
        picture = ground[down : down + height, across : across + width].copy()
        for thing in range(3):
            side = height // 6
            left = round((width - side) * (0.5 + 0.5 * np.sin(0.5 * seconds + 2 * thing)))
            top = round((height - side) * (0.5 + 0.5 * np.cos(0.37 * seconds + thing)))
            picture[top : top + side, left : left + side] = (255 * (thing == 0), 255 * (thing == 1), 255 * (thing == 2))
        yield picture
