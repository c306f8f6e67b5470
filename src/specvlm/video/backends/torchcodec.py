"""Frames by torchcodec, on the FFmpeg of the system, for those who ask for it: step 3 of decoding.

PyAV has scanned the file by then, and torchcodec is told which frames there are and where decoding may start. It is
believed only if each frame comes with the time that was promised, and if a keyframe in the middle of the video looks as
PyAV decodes it, but for rounding: the two may be built on different versions of FFmpeg, which round colours differently
where the pixels are deeper than 8 bits or a side is odd. Otherwise the frames are PyAV's.

In MPEG-TS, program streams and AVI with B-frames torchcodec 0.17 seeks past the frames that it is asked for, and hands
out later ones: it isn't asked there. Nor does it leave out frames that nobody refers to, or decode several stretches at
once: on two cores it takes twice as long as PyAV does here.

A frame that is damaged inside, in a file whole outside, passes unseen: torchcodec hands out what FFmpeg made up for it.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Collection
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from specvlm.video.backends import pyav
from specvlm.video.files.container import VideoFile
from specvlm.video.files.packets import Scan, entries
from specvlm.video.room import require_all

SAME_PICTURE = 4.0
"""Mean difference, of 255, up to which two pictures are the same one rounded differently."""

TRUSTED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
"""Containers, as FFmpeg calls them, that are sought by the times at which frames are shown."""

REFUSALS = (RuntimeError, ValueError, TypeError, IndexError, OSError)
"""How torchcodec tells that it can't: of its own C++ or of FFmpeg, mostly as RuntimeError."""


@cache
def decoder_class() -> Any | None:
    """torchcodec's `VideoDecoder`, or None where torchcodec or the FFmpeg that it needs is missing."""
    try:
        torchcodec = importlib.import_module("torchcodec")
        decoders = importlib.import_module("torchcodec.decoders")
    except (ImportError, OSError, RuntimeError):
        return None
    return None if getattr(torchcodec, "ffmpeg_major_version", 0) is None else decoders.VideoDecoder


def is_trusted(scan: Scan) -> bool:
    """Whether torchcodec may be asked for frames of such a file."""
    return scan.container in TRUSTED and scan.damage is None


def read(
    source: VideoFile, scan: Scan, places: Int64[np.ndarray, " chosen"]
) -> UInt8[np.ndarray, "chosen H W 3"] | None:
    """The frames at `places` of the scan's timeline, in torchcodec's own rounding. None if it can't be sure of them."""
    return _read(source, scan, places) if is_trusted(scan) else None


def _read(
    source: VideoFile, scan: Scan, places: Int64[np.ndarray, " chosen"]
) -> UInt8[np.ndarray, "chosen H W 3"] | None:
    decoder_type = decoder_class()
    if decoder_type is None:
        return None
    ticks = [packet.pts or 0 for packet in scan.shown()]
    starts = [ticks.index(scan.packets[start].pts or 0) for start in entries(scan.packets)]
    trial = np.array([starts[len(starts) // 2] if starts else 0])
    expected = pyav.read(source, scan, trial)
    if expected is None:
        return None
    _, height, width, _ = expected.shape
    require_all(len(places), width, height, source.name)
    source.file.seek(0)
    try:
        decoder = decoder_type(
            source.file,
            stream_index=scan.stream_index,
            dimension_order="NHWC",
            num_ffmpeg_threads=0,
            device="cpu",
            custom_frame_mappings=_mappings(scan, {0, *starts}),
        )
        tried = _promised(decoder, scan, trial)
        if tried is None or tried.shape != expected.shape or _difference(tried, expected) > SAME_PICTURE:
            return None
        return _promised(decoder, scan, places)
    except REFUSALS:
        return None


def _mappings(scan: Scan, starts: Collection[int]) -> str:
    """Which frames there are, in torchcodec's own format; decoding may start at the places `starts`."""
    frames = [
        {"pts": packet.pts, "duration": packet.duration, "key_frame": int(place in starts)}
        for place, packet in enumerate(scan.shown())
    ]
    return json.dumps({"frames": frames})


def _promised(
    decoder: Any, scan: Scan, places: Int64[np.ndarray, " chosen"]
) -> UInt8[np.ndarray, "chosen H W 3"] | None:
    """The frames at `places`, if they are shown when the packets said that they would be."""
    batch = decoder.get_frames_at(places.tolist())
    shown = scan.shown()
    seconds = np.array([float((shown[place].pts or 0) * scan.time_base) for place in places])
    in_time = np.abs(batch.pts_seconds.numpy() - seconds) < float(scan.time_base) / 2
    return batch.data.numpy() if in_time.all() else None


def _difference(one: UInt8[np.ndarray, "1 H W 3"], other: UInt8[np.ndarray, "1 H W 3"]) -> float:
    """Mean over pixels and channels, 0 to 255."""
    return float(np.abs(one.astype(np.int16) - other).mean())
