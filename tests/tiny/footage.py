"""Something to look at: noise, a different one for each seed, so that every frame and every place matters."""

from __future__ import annotations

import numpy as np

from specvlm.video import Video, load

HEIGHT, WIDTH = 20, 24
"""Not square, so that rows taken for columns are noticed."""


def video(num_frames: int = 6, seed: int = 0) -> Video:
    """Without a clock."""
    frames = np.random.default_rng(seed).integers(0, 256, (num_frames, HEIGHT, WIDTH, 3), dtype=np.uint8)
    return load(frames)


def film(num_frames: int = 6, seed: int = 0, *, fps: float = 2.0, height: int = HEIGHT, width: int = WIDTH) -> Video:
    """With a clock: `fps` frames a second, at the times that a file would give."""
    frames = np.random.default_rng(seed).integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8)
    return Video(frames, timestamps=np.arange(num_frames) / fps, duration=num_frames / fps, source_fps=fps)


def half_still(num_frames: int = 6, seed: int = 0, *, fps: float = 2.0) -> Video:
    """As `film`, of which but the left third nothing moves; and the last frame is the one before it."""
    frames = np.array(film(num_frames, seed).frames)
    frames[:, :, 8:] = frames[:1, :, 8:]
    frames[-1] = frames[-2]
    return Video(frames, timestamps=np.arange(num_frames) / fps, duration=num_frames / fps, source_fps=fps)


def image(seed: int = 0, height: int = 24, width: int = 16) -> np.ndarray:
    """[H, W, 3], uint8."""
    return np.random.default_rng(1000 + seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
