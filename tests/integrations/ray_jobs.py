"""Jobs for a run on Ray, and what loads the pair that does them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import specvlm
from integrations import mortal
from specvlm.answering.options import Options
from specvlm.evals.evaluate import Job
from specvlm.evals.sample import Sample
from specvlm.evals.settings import Setting
from specvlm.pipeline import SpecVLM

ARMS = ("ar", "sd", "specvlm")
"""None that learns: what an actor has learnt no other one knows."""

SETTING = Setting(Options(num_frames=4, max_new_tokens=8, pruning_ratio=0.5), ARMS)
NUM_SAMPLES = 6


def load_from(pair: Path) -> partial[SpecVLM]:
    return partial(specvlm.load, pair / "target", pair / "draft", dtype="float32")


def jobs(film: Path, fatal: int | None = None) -> list[Job]:
    """One with a video that isn't there among them, and one that kills on demand."""
    questions = [mortal.FATAL if number == fatal else f"what {'is ' * number}here?" for number in range(NUM_SAMPLES)]
    videos = [str(film)] * (NUM_SAMPLES - 1) + [str(film.with_name("missing.mp4"))]
    samples = [
        Sample(sample_id=str(number), video=video, question=question)
        for number, (video, question) in enumerate(zip(videos, questions, strict=True))
    ]
    return [Job(sample, SETTING, SETTING.arms) for sample in samples]
