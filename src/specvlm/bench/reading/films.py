"""Films of the usual kinds, rendered here: a camera that moves over a patterned ground, with things that move on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream
from jaxtyping import UInt8

FPS = 30
SIZES = {"720p": (1280, 720), "1080p": (1920, 1080)}
MARGIN = 320
"""Pixels that the camera may move to each side."""

ENCODED = 30.0
"""Seconds that are encoded of a film; after them its packets come again."""

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
    "1080p H.264, no B-frames": Film("libx264", "1080p", options={"bf": "0"}),
    "720p HEVC": Film("libx265", options={"preset": "fast", "x265-params": X265.format(250)}),
    "720p HEVC, short GOPs": Film("libx265", options={"preset": "fast", "x265-params": X265.format(30)}),
    "1080p HEVC": Film("libx265", "1080p", options={"preset": "superfast", "x265-params": X265.format(250)}),
    "720p VP9": Film("libvpx-vp9", suffix="webm", options={"deadline": "realtime", "cpu-used": "7"} | LONG),
    "720p AV1": Film("libsvtav1", options={"preset": "11", "svtav1-params": "keyint=250"}),
}


def rendered(film: Film, seconds: float, path: Path) -> Path:
    """The film as a file at `path`. Of more than `ENCODED` seconds the first ones come again and again."""
    width, height = SIZES[film.size]
    num_frames = round(seconds * FPS)
    num_encoded = min(num_frames, round(ENCODED * FPS))
    with av.open(str(path), "w") as container:
        stream = container.add_stream(film.codec, rate=FPS, options=film.options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        packets = list[av.Packet]()
        for pixels in _pictures(width, height, num_encoded):
            packets += stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24"))
        packets += stream.encode()
        for packet in islice(_again(packets, num_encoded), num_frames):
            packet.stream = stream
            container.mux(packet)
    return path


def _again(packets: list[av.Packet], num_frames: int) -> Iterator[av.Packet]:
    """Copies of the packets of so many frames, for ever. (Muxing takes a packet's times from it.)"""
    for turn in count():
        for packet in packets:
            fresh = av.Packet(bytes(packet))
            fresh.time_base, fresh.is_keyframe = packet.time_base, packet.is_keyframe
            shift = round(turn * num_frames / (FPS * packet.time_base))
            fresh.pts, fresh.dts = (packet.pts or 0) + shift, (packet.dts or 0) + shift
            fresh.duration = packet.duration
            yield fresh


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
