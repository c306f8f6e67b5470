"""The frames that a checkpoint's own video processor would take, chosen before any is decoded."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

import numpy as np
from jaxtyping import Int64
from transformers.video_utils import VideoMetadata

from specvlm.errors import OptionError, brief
from specvlm.video.sampling import DEFAULT_NUM_FRAMES, Choose, Rate, Sampling, Timeline, require_clock, uniform

NAMES = ("num_frames", "fps", "max_frames")
"""The options of a sampling rule."""


def processor_sampling(
    video_processor: Any, *, num_frames: int | None = None, fps: Rate | None = None, max_frames: int | None = None
) -> Choose:
    """The sampling rule of a transformers video processor, for `video.load(choose=...)`.

    The frames are those of `video_processor(video, do_sample_frames=True, num_frames=..., fps=...)` on the whole video:
    its own `sample_frames` is asked, and the processor left as it is. What the options mean, down to rounding, is its
    affair: Qwen2-VL, say, makes `num_frames` even, and takes at least four frames for an `fps`. With neither, it is the
    processor's own default; where it has none, or a rate and the source no clock, `DEFAULT_NUM_FRAMES`, or all frames
    of a shorter video. `max_frames` bounds any of these; it is rounded down to whole temporal patches.

    Where transformers fails, there is still an answer: a video with fewer frames than are asked for gives all of them,
    in whole temporal patches, and what is too little for a single one repeats its last frame to fill it.

    Raises `OptionError` for options out of range; the rule raises it for `fps` on a source without a clock.
    """
    wanted = Sampling(num_frames=num_frames, fps=fps, max_frames=max_frames)
    own = copy.copy(video_processor)
    own.num_frames = own.fps = None  # or a default of one option would get the better of the other, which was asked for
    patch_frames = getattr(video_processor, "temporal_patch_size", None) or 1
    bound = None if max_frames is None else max_frames // patch_frames * patch_frames or max_frames

    def choose(timeline: Timeline) -> Int64[np.ndarray, " chosen"]:
        count, rate = wanted.num_frames, wanted.fps
        if count is None and rate is None:
            count = video_processor.num_frames
            rate = video_processor.fps if count is None and timeline.seconds is not None else None
        if rate is not None:
            require_clock(rate, timeline)
            chosen = _sampled(own, patch_frames, timeline, fps=rate)
            if bound is None or len(chosen) <= bound:
                return chosen
            count = bound
        if count is None:
            count = min(DEFAULT_NUM_FRAMES, timeline.num_frames)
        return _sampled(own, patch_frames, timeline, num_frames=count if bound is None else min(count, bound))

    return choose


def _sampled(
    processor: Any, patch_frames: int, timeline: Timeline, num_frames: int | None = None, fps: Rate | None = None
) -> Int64[np.ndarray, " chosen"]:
    """What the processor takes for one of the two options, or what comes nearest to it."""
    total = timeline.num_frames
    whole = total // patch_frames * patch_frames
    metadata = VideoMetadata(total_num_frames=total, fps=timeline.fps, duration=timeline.duration)
    if num_frames is not None and num_frames < patch_frames:
        chosen = uniform(total, num_frames)
    else:
        try:
            chosen = processor.sample_frames(metadata, num_frames=num_frames, fps=fps)
        except (ValueError, ZeroDivisionError):  # it wants more frames than there are, or there is no temporal patch
            chosen = ()
        if len(chosen) == 0:  # as older releases say it
            chosen = processor.sample_frames(metadata, num_frames=whole) if whole else uniform(total, total)
    chosen = np.asarray(chosen, np.int64)
    chosen = chosen[chosen < total]  # Qwen2-VL steps by a float, and sometimes one step too far: 14 of 17 frames, say
    return np.pad(chosen, (0, max(patch_frames - len(chosen), 0)), mode="edge")


def clocked_sampling(
    video_processor: Any,
    heeds: Collection[str],
    *,
    num_frames: int | None = None,
    fps: Rate | None = None,
    max_frames: int | None = None,
) -> Choose:
    """The sampling rule of a processor that always goes by the clock, for `video.load(choose=...)`.

    `heeds` are the options that it heeds. One that isn't given is the processor's own default, also beside another: a
    `num_frames` may then be the most there are at its own `fps`. Raises `OptionError` for options that it would pass
    over, or that are out of range; the rule raises it for a source without a clock, or for what the processor can't do.
    """
    wanted = Sampling(num_frames=num_frames, fps=fps, max_frames=max_frames)
    asked = {name: value for name in NAMES if (value := getattr(wanted, name)) is not None}
    for name, value in asked.items():
        if name not in heeds:
            known = " and ".join(heeds) or "none: how long the video is decides"
            raise OptionError(f"{name}={value}: the video processor passes it over; options that it heeds: {known}")
    if (most := asked.pop("max_frames", None)) is not None:
        asked["num_frames"] = min(most, *filter(None, (num_frames, video_processor.num_frames)))

    def choose(timeline: Timeline) -> Int64[np.ndarray, " chosen"]:
        if not (rate := timeline.fps):
            raise OptionError(
                "the model's video processor goes by the clock, and this source has none: give source_fps too"
            )
        total = timeline.num_frames
        metadata = VideoMetadata(total_num_frames=total, fps=rate, duration=timeline.duration or total / rate)
        try:
            chosen = np.asarray(video_processor.sample_frames(metadata, **asked), np.int64)
        except (ValueError, TypeError, ZeroDivisionError) as error:
            raise OptionError(f"the model's video processor can't choose frames here: {brief(error)}") from error
        if len(chosen) == 0:
            raise OptionError(
                f"the model's video processor takes no frame of a video this short: {total} in {total / rate:.3g} s"
            )
        return chosen

    return choose
