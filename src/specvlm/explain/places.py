"""Where in a video its tokens lie: in which frame, and at which place of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Int, UInt8

from specvlm.prompts.prompt import Prompt
from specvlm.video import Video


@final
@dataclass(frozen=True, eq=False)
class Sight:
    """One or more frames that a model takes as one, when they begin, and which video tokens, counted from 0, stand for
    their places, row by row."""

    frames: UInt8[np.ndarray, "T H W 3"]
    seconds: float | None
    tokens: Int[np.ndarray, "rows cols"]


def sights(clip: Video, prompt: Prompt) -> Iterator[Sight]:
    """A video as a prompt about it alone sees it, in order. Tokens without a place, such as newlines, are left out."""
    placed = prompt.place_ids >= 0
    if not placed.any():
        return
    num_places, num_sights = int(prompt.place_ids.max()) + 1, int(prompt.frame_ids[placed].max()) + 1
    together = -(-len(clip.frames) // num_sights)  # Qwen-VL takes two frames as one
    grid = grid_of(num_places, clip.frames.shape[2] / clip.frames.shape[1])
    for number in range(num_sights):
        mine = (prompt.frame_ids == number) & placed
        first = min(number * together, len(clip.frames) - 1)
        yield Sight(
            frames=clip.frames[first : first + together],
            seconds=None if clip.timestamps is None else float(clip.timestamps[first]),
            tokens=mine.nonzero()[:, 0].numpy().reshape(grid),
        )


def grid_of(num_places: int, aspect: float) -> tuple[int, int]:
    """Rows and columns of the grid that `num_places` tokens make of a frame `aspect` times as wide as it is high.

    Models lay their tokens out row by row over the whole frame, in cells that are about square: of all ways to divide
    the number, the one nearest to the frame's own shape.
    """
    divisors = [rows for rows in range(1, num_places + 1) if num_places % rows == 0]
    rows = min(divisors, key=lambda rows: abs(math.log(num_places / rows / rows / aspect)))
    return rows, num_places // rows
