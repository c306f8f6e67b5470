"""Readers: ways to get the frames of a file at given places, ours and those that people have."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
from jaxtyping import UInt8

from specvlm import video
from specvlm.machine import version_of

Frames = UInt8[np.ndarray, "chosen H W 3"]
Reader = Callable[[Path, Sequence[int]], Frames]


def specvlm(path: Path, places: Sequence[int]) -> Frames:
    return video.load(path, choose=lambda line: np.array(places)).frames


def straight(path: Path, places: Sequence[int]) -> Frames:
    """By PyAV from the start to the last frame wanted, with as many threads as FFmpeg likes: right by construction."""
    wanted, found = set(places), {}
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for place, frame in enumerate(container.decode(stream)):
            if place in wanted:
                found[place] = frame.to_ndarray(format="rgb24")
            if place == places[-1]:
                break
    return np.stack([found[place] for place in places])


def transformers(path: Path, places: Sequence[int]) -> Frames:
    """As transformers reads files itself, by PyAV."""
    from transformers.video_utils import load_video

    source: Any = str(path)  # which its annotation leaves out
    frames, _ = load_video(source, backend="pyav", sample_indices_fn=lambda metadata, **_: np.array(places))
    return np.asarray(frames)


def torchcodec(path: Path, places: Sequence[int]) -> Frames:
    from torchcodec.decoders import VideoDecoder  # type: ignore[import-not-found]

    batch = VideoDecoder(str(path), num_ffmpeg_threads=0).get_frames_at(list(places))
    return batch.data.permute(0, 2, 3, 1).numpy()


def decord(path: Path, places: Sequence[int]) -> Frames:
    import decord as library  # type: ignore[import-not-found]

    return library.VideoReader(str(path)).get_batch(list(places)).asnumpy()


def opencv(path: Path, places: Sequence[int]) -> Frames:
    import cv2  # type: ignore[import-not-found]

    film, found = cv2.VideoCapture(str(path)), []
    for place in range(places[-1] + 1):
        film.grab()
        if place in set(places):
            is_there, frame = film.retrieve()
            if not is_there:
                raise OSError(f"no frame {place}")
            found.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    film.release()
    return np.stack(found)


OWN = "specvlm"

READERS: dict[str, tuple[Reader, str, str]] = {
    OWN: (specvlm, "av", "av"),
    "PyAV, straight": (straight, "av", "av"),
    "transformers": (transformers, "transformers", "transformers"),
    "torchcodec": (torchcodec, "torchcodec", "torchcodec"),
    "decord2": (decord, "decord", "decord2"),
    "OpenCV": (opencv, "cv2", "opencv-python-headless"),
}
"""By name: how it reads, the module that it needs, and the package that has it."""


def installed() -> dict[str, Reader]:
    return {name: reader for name, (reader, module, _) in READERS.items() if importlib.util.find_spec(module)}


def reader_versions() -> dict[str, str]:
    """Of the packages of those that are installed."""
    return {READERS[name][2]: version_of(READERS[name][2]) for name in installed()}
