"""Something to ask about: a held-out film of the little world with as many frames as wanted, and a description as long.

A film always lasts the 4 seconds that the embedded pairs were trained on, as if a faster camera had filmed it where
many frames are wanted: their positions in time, of which Qwen-VL makes use, stay those that the models know.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from specvlm import pocket
from specvlm.engine.stats import Stats
from specvlm.errors import OptionError
from specvlm.options import Options
from specvlm.pipeline import SpecVLM
from specvlm.pocket.film import write_mp4
from specvlm.pocket.language import describe
from specvlm.pocket.world import NATIVE_SIZE, make_scene

QUESTION = "Describe the video in detail."
SECONDS = 4.0
LEAST_FPS = 24
NUM_CANDIDATES = 300
"""Films to choose from."""
FEW_FRAMES, MORE_FRAMES = 8, 16


@dataclass(frozen=True)
class Footage:
    """A film on disk, and how many frames of it to take."""

    path: Path
    film: int
    """Its number among the held-out films."""
    num_frames: int
    question: str = QUESTION


def shoot(vlm: SpecVLM, folder: Path, video_tokens: int, new_tokens: int) -> Footage:
    """Write a film of which so many frames make about `video_tokens`, and whose description is about `new_tokens` long.

    Errors: OptionError for fewer video tokens than a few frames have.
    """
    film, num_frames = choose_film(vlm, new_tokens), frames_for(vlm, video_tokens)
    path = folder / f"film_{film}_{num_frames}.mp4"
    if not path.exists():
        fps = max(LEAST_FPS, math.ceil(num_frames / SECONDS))
        write_mp4(make_scene(pocket.HELD_OUT[film]), path, fps=fps, seconds=SECONDS)
    return Footage(path, film, num_frames)


def frames_for(vlm: SpecVLM, video_tokens: int) -> int:
    """How many frames have about so many video tokens. They grow evenly with the frames."""
    few, more = (num_video_tokens(vlm, num_frames) for num_frames in (FEW_FRAMES, MORE_FRAMES))
    per_frame = (more - few) / (MORE_FRAMES - FEW_FRAMES)
    num_frames = round(FEW_FRAMES + (video_tokens - few) / per_frame)
    if num_frames < 2:
        raise OptionError(f"video tokens: {video_tokens} are less than two frames have, {math.ceil(2 * per_frame)}")
    return num_frames


def num_video_tokens(vlm: SpecVLM, num_frames: int) -> int:
    """Of a film of so many frames."""
    frames = np.zeros((num_frames, NATIVE_SIZE, NATIVE_SIZE, 3), np.uint8)
    return vlm.prepare(frames, QUESTION, Options(), Stats()).num_video_tokens


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
