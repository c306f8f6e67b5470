"""Budgets in frames: how many fit, which ones stand for their time, and what to do with the rest.

A token without a place (`place_ids` of -1, such as LLaVA's closing newline) belongs to no frame.

Axes: M video tokens, K kept ones, F frames.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specvlm.pruning.base import PruningContext, even_picks


def frame_tokens(context: PruningContext) -> tuple[Int[Tensor, " _"], ...]:
    """The token indices of each frame, by ascending frame id."""
    placed = (context.place_ids.cpu() >= 0).nonzero()[:, 0]
    frame_ids, order = context.frame_ids.cpu()[placed].sort(stable=True)
    sizes = torch.unique_consecutive(frame_ids, return_counts=True)[1]
    return placed[order].split(sizes.tolist())


def placeless_tokens(context: PruningContext) -> Int[Tensor, " _"]:
    """The tokens of no frame."""
    return (context.place_ids.cpu() < 0).nonzero()[:, 0]


def frame_means(scores: Float[Tensor, " M"], frames: Sequence[Int[Tensor, " _"]]) -> Float[Tensor, " F"]:
    """The mean score of each frame."""
    return torch.tensor([float(scores[tokens].mean()) for tokens in frames], dtype=torch.float64)


def best_of_spans(values: Float[Tensor, " F"], num_spans: int) -> list[int]:
    """The frame of highest value in each of `num_spans` equal spans of time (at most F; ties to the earlier frame).

    Twice the spans cut each span in two, so the frames chosen are those of before and as many again.
    """
    bounds = [i * len(values) // max(1, num_spans) for i in range(num_spans + 1)]
    return [start + int(values[start:end].argmax()) for start, end in itertools.pairwise(bounds)]


def whole_frames(context: PruningContext, frames: Sequence[Int[Tensor, " _"]]) -> int:
    """How many frames fit into K: exact for frames of one size, by their mean size otherwise."""
    num_placed = sum(map(len, frames))
    return min(len(frames), context.num_keep * len(frames) // num_placed) if num_placed else 0


def fill_frames(
    context: PruningContext, frames: Sequence[Int[Tensor, " _"]], order: Sequence[int]
) -> Int[Tensor, " K"]:
    """Spend K on whole frames in the given `order` (of all F), until one does not fit.

    What is left goes to the tokens without a place, for a model expects to see its video closed, and then to
    the frame that did not fit, at an even stride over its places.
    """
    num_left = context.num_keep
    kept, partial = [], torch.empty(0, dtype=torch.long)
    for tokens in (frames[i] for i in order):
        if len(tokens) > num_left:
            partial = tokens
            break
        kept.append(tokens)
        num_left -= len(tokens)
    placeless = placeless_tokens(context)
    num_placeless = min(num_left, len(placeless))
    kept.append(placeless[even_picks(len(placeless), num_placeless)])
    kept.append(partial[even_picks(len(partial), num_left - num_placeless)])
    return torch.cat(kept).sort().values
