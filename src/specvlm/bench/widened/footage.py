"""Something to ask about: a held-out film of the little world, with as many frames and as long a description as wanted.

A film lasts the 4 seconds that the embedded pairs were trained on, as if a faster camera had filmed it where many
frames are wanted. A pair that passes over blank frames (`specvlm.bench.widened.blank_frames`) is shown no more of it
than the embedded pairs know to look at, and a long still beside it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from specvlm import pocket
from specvlm.answering.options import Options
from specvlm.bench.widened import blank_frames
from specvlm.bench.widened.blank_frames import CODED_SIZE, eyes_of, long_film, num_frames_of
from specvlm.engine.stats import Stats
from specvlm.pipeline import SpecVLM
from specvlm.pocket.film import write_mp4
from specvlm.pocket.language import describe
from specvlm.pocket.world import NATIVE_SIZE, make_scene, render
from specvlm.video import Video

QUESTION = "Describe the video in detail."

TRAINED_FRAMES = 32
"""The most that the embedded pairs were trained on: about longer films they say less, and less of it is right."""

SECONDS = 4.0
LEAST_FPS = 24
NUM_CANDIDATES = 300
"""Films to choose from."""


@dataclass(frozen=True)
class Footage:
    """A film on disk, and how many frames of it to take; of these, `num_blank` show a still beside the film."""

    path: Path
    film: int
    """Its number among the held-out films."""
    num_frames: int
    num_blank: int = 0
    question: str = QUESTION


def shoot(vlm: SpecVLM, folder: Path, video_tokens: int, new_tokens: int, *, blanks: bool = False) -> Footage:
    """Write a film of which so many frames make about `video_tokens`, and whose description is about `new_tokens` long.

    With `blanks`, what is longer than the embedded pairs know is blank frames: for models that pass over them.
    """
    film, num_frames = choose_film(vlm, new_tokens), num_frames_of(vlm.target, video_tokens)
    num_blank = max(0, num_frames - TRAINED_FRAMES) if blanks else 0
    path = folder / f"film_{film}_{num_frames}_{num_blank}.mp4"
    scene = make_scene(pocket.HELD_OUT[film])
    if num_blank:
        shown = render(scene, (np.arange(TRAINED_FRAMES) + 0.5) / TRAINED_FRAMES, CODED_SIZE)
        blank_frames.write_mp4(long_film(shown, num_frames, eyes_of(vlm.target).side), path)
    else:
        write_mp4(scene, path, fps=max(LEAST_FPS, math.ceil(num_frames / SECONDS)), seconds=SECONDS)
    return Footage(path, film, num_frames, num_blank)


def num_video_tokens(vlm: SpecVLM, num_frames: int) -> int:
    """Of a film of so many frames."""
    frames = np.zeros((num_frames, NATIVE_SIZE, NATIVE_SIZE, 3), np.uint8)
    return vlm.prepare(Video(frames, comment=pocket.SIGNED), QUESTION, Options(), Stats()).num_video_tokens


def choose_film(vlm: SpecVLM, new_tokens: int) -> int:
    """The film whose description is the shortest of those with `new_tokens` or more; if there is none, the longest.

    A question that leads to an answer of the wanted length, rather than an answer that is kept from ending: what comes
    behind the end is nothing that the models have learnt, and how often a draft guesses it would mean nothing.
    """
    lengths = [_description_length(vlm, film) for film in range(NUM_CANDIDATES)]
    enough = [length for length in lengths if length >= new_tokens]
    return lengths.index(min(enough) if enough else max(lengths))


def _description_length(vlm: SpecVLM, film: int) -> int:
    """Tokens of the true description, its end included."""
    return 1 + len(vlm.target.tokenizer(describe(make_scene(pocket.HELD_OUT[film]))).input_ids)
