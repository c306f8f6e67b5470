"""Which frames of a video are looked at: pure arithmetic on frame counts and presentation times."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from numbers import Integral, Real

import numpy as np
from jaxtyping import Float64, Int64

from specvlm.errors import OptionError, brief

Rate = float | int
"""Frames a second. (To the type checker of the tests an int is no float.)"""

DEFAULT_NUM_FRAMES = 32
"""Of a video that is decoded, when nothing else is asked for."""

MAX_FPS = 1e6
"""Asking for more frames a second than this is asking for all of them; it keeps the arithmetic exact."""


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """When the frames of a source are shown, in order of presentation.

    `seconds` count from the first frame of the source and are None for a source without a clock (an array);
    `duration` lasts from the first frame until the last one disappears, None where that is unknown.
    """

    num_frames: int
    seconds: Float64[np.ndarray, " num_frames"] | None = None
    duration: float | None = None

    @classmethod
    def regular(cls, num_frames: int, fps: Rate | None) -> Timeline:
        """Frames at a constant rate `fps`, or without a clock when that is None."""
        if fps is None:
            return cls(num_frames)
        return cls(num_frames, np.arange(num_frames) / fps, num_frames / fps)

    @property
    def fps(self) -> float | None:
        """Frames a second on average: `num_frames / fps` is the duration. None without a clock or where unknown."""
        if self.seconds is None:
            return None
        return rate(self.num_frames, self.duration) if self.duration else average_rate(self.seconds)


Choose = Callable[[Timeline], Int64[np.ndarray, " chosen"]]
"""A rule that says which frames of a source are looked at: indices into its timeline, never falling, at least one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Which frames are wanted: `num_frames` spread evenly, or `fps` of them a second; neither means all.

    `max_frames` is an upper bound on either. It lowers `num_frames`; a choice by `fps` it thins evenly.
    """

    num_frames: int | None = None
    fps: Rate | None = None
    max_frames: int | None = None

    def __post_init__(self) -> None:
        if self.num_frames is not None and self.fps is not None:
            raise OptionError(
                f"num_frames={brief(repr(self.num_frames))} and fps={brief(repr(self.fps))} exclude each other: "
                "give one of them"
            )
        require_count("num_frames", self.num_frames)
        require_count("max_frames", self.max_frames)
        require_rate("fps", self.fps)

    def choose(self, timeline: Timeline) -> Int64[np.ndarray, " chosen"]:
        """The frames to look at: strictly increasing indices into `timeline`, at least one if it holds any.

        Raises `OptionError` for `fps` on a timeline without a clock.
        """
        if self.fps is not None:
            chosen = nearest(require_clock(self.fps, timeline), self.fps, timeline.duration)
            return chosen if self.max_frames is None else chosen[uniform(len(chosen), self.max_frames)]
        bounds = [bound for bound in (self.num_frames, self.max_frames) if bound is not None]
        return uniform(timeline.num_frames, min(bounds, default=timeline.num_frames))


def checked(choose: Choose) -> Choose:
    """The same rule, held to its contract: `OptionError` for a choice that no video can fulfil.

    An index may come twice, and that frame is then seen twice, as with transformers' own processors.
    """

    def choose_checked(timeline: Timeline) -> Int64[np.ndarray, " chosen"]:
        chosen = np.asarray(choose(timeline))
        if chosen.ndim != 1 or not np.issubdtype(chosen.dtype, np.integer) or len(chosen) == 0:
            raise OptionError(
                f"choose must return a list of at least one index, not {chosen.dtype} of shape {list(chosen.shape)}"
            )
        if chosen.min() < 0 or chosen.max() >= timeline.num_frames or (np.diff(chosen.astype(np.int64)) < 0).any():
            raise OptionError(
                f"choose must return indices from 0 to {timeline.num_frames - 1} that never fall, "
                f"not {brief(chosen.tolist())}"
            )
        return chosen.astype(np.int64)

    return choose_checked


def average_rate(
    seconds: Float64[np.ndarray, " total"], indices: Int64[np.ndarray, " total"] | None = None
) -> float | None:
    """Frames a second between the first and the last of these, which stand at `indices` of their source (or count from
    0); None if they are shown at one time."""
    if len(seconds) == 0 or seconds[-1] <= seconds[0]:
        return None
    count = len(seconds) - 1 if indices is None else int(indices[-1] - indices[0])
    return rate(count, seconds[-1] - seconds[0])


def rate(count: int, seconds: float) -> float:
    """`count / seconds`, freed of rounding: 40 frames in 1.3333333333333333 s are exactly 30 a second.

    Processors round frame counts and positions down, so the last bit of a rate can decide about a whole frame.
    """
    exact = count / Fraction(seconds)
    simple = exact.limit_denominator(10**6)
    return float(simple if abs(simple - exact) <= exact * Fraction(1, 10**12) else exact)


def require_clock(fps: Rate, timeline: Timeline) -> Float64[np.ndarray, " num_frames"]:
    """When each frame is shown, in seconds. Raises `OptionError` if nobody knows."""
    if timeline.seconds is None:
        raise OptionError(
            f"fps={fps!r} needs to know when each frame is shown, and this source has no clock: "
            "give source_fps too, or num_frames instead"
        )
    return timeline.seconds


def uniform(total: int, count: int) -> Int64[np.ndarray, " chosen"]:
    """`count` indices spread evenly over `total` frames, first and last included; all when there are fewer.

    Exactly `np.linspace(0, total - 1, count, dtype=int)`, which rounds down: the convention of LLaVA-NeXT's
    and LLaVA-OneVision's own loaders. A count of 1 is the first frame.
    """
    return np.linspace(0, total - 1, min(count, total), dtype=np.int64)


def nearest(
    seconds: Float64[np.ndarray, " total"], fps: Rate, duration: float | None = None
) -> Int64[np.ndarray, " chosen"]:
    """Indices of the frames nearest to the instants k / fps for k = 0, 1, ... until the video ends, none twice.

    Between two frames that are equally near the earlier one is taken. The video ends at `duration`
    (exclusive) or, where that is unknown, with its last frame (inclusive).
    """
    if len(seconds) == 0:
        return np.zeros(0, np.int64)
    # Frame i is nearest to the instants in (border[i-1], border[i]]. Counting instants up to each border costs
    # no memory for instants, however many there are. The slack keeps a tie a tie in floating point.
    fps = min(fps, MAX_FPS)
    end = seconds[-1] if duration is None else max(seconds[-1], duration)
    borders = np.append((seconds[:-1] + seconds[1:]) / 2, end)
    last_instant = np.floor(borders * fps + 1e-6)
    if duration is not None and end == duration:
        last_instant[-1] = max(np.ceil(end * fps - 1e-6) - 1, 0)
    # Instants before the first frame (a video that was cut out of a longer one) still belong to that frame.
    last_instant = np.maximum(last_instant, 0)
    return np.flatnonzero(np.diff(last_instant, prepend=-1) > 0)


def require_count(option: str, value: object) -> None:
    """Raise `OptionError` unless `value` is None or a whole number of at least 1."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, Integral) or value < 1):
        raise OptionError(f"{option} must be a whole number of at least 1, not {brief(repr(value))}")


def require_rate(option: str, value: object) -> None:
    """Raise `OptionError` unless `value` is None or a positive, finite number of frames a second."""
    if value is not None and not _is_rate(value):
        raise OptionError(f"{option} must be a positive number of frames a second, not {brief(repr(value))}")


def _is_rate(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    try:
        return 0 < float(value) < math.inf
    except OverflowError:  # a whole number that no float can hold
        return False
