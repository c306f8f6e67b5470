"""A part of a video, for questions that are about no more."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int64

from specvlm import video as videos
from specvlm.answering.options import Options
from specvlm.errors import VideoError
from specvlm.evals.sample import Sample
from specvlm.video.sampling import Choose, Timeline

if TYPE_CHECKING:
    from specvlm.pipeline import SpecVLM


def footage(vlm: SpecVLM, sample: Sample, options: Options) -> tuple[Any, Options, float]:
    """What to give for the sample's video, the options for it, and the seconds that it took already.

    A whole video is its path: whoever answers reads it. Of a part, the frames that the model's processor would choose
    if there were no more. `source_fps` is for the folders of pictures among a data set's videos. Errors: VideoError.
    """
    if options.source_fps is not None and not Path(sample.video).is_dir():
        options = replace(options, source_fps=None)
    if sample.span is None:
        return sample.video, options, 0.0
    start = time.perf_counter()
    rule = vlm.target.sampling(num_frames=options.num_frames, fps=options.fps)
    clip = videos.load(sample.video, choose=within(sample.span, rule), **options.reading)
    return clip, vlm.once_chosen(options), time.perf_counter() - start


def within(span: tuple[float, float], choose: Choose) -> Choose:
    """A rule that sees only the frames shown between two seconds, both included, as if there were no others.

    Where none is, it sees the nearest to the first second.
    """
    first, last = span

    def choose_within(timeline: Timeline) -> Int64[np.ndarray, " chosen"]:
        if timeline.seconds is None:
            raise VideoError(f"seconds {first} to {last} are asked about, and the video has no clock")
        inside = np.flatnonzero((timeline.seconds >= first) & (timeline.seconds <= last))
        if len(inside) == 0:
            inside = np.array([np.abs(timeline.seconds - first).argmin()])
        seconds = timeline.seconds[inside]
        duration = None if timeline.duration is None else max(min(last, timeline.duration) - seconds[0], 0.0)
        return inside[choose(Timeline(len(inside), seconds - seconds[0], duration))]

    return choose_within
