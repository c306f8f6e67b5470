"""Whole frames that the target looks at."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specvlm.pruning.base import (
    Pruner,
    PruningContext,
    fill_frames,
    frame_tokens,
    ranking,
    register,
    whole_frames,
)


@register
@final
@dataclass(frozen=True, slots=True)
class GuidedFrames(Pruner):
    """Keeps whole frames, the one that the target attends to most of each of equal spans of time.

    There are as many spans as whole frames fit into K, so the choice stays spread out even when the scores
    mean nothing. Attention leans to the first and last frames whatever they show, so a frame counts by how far
    it stands above the smooth trend over time (`excess_attention`). What is left of K goes to the best other
    frame, at even places.

    Our own: the target's scores of SpecVLM (arXiv:2508.16201) choose frames in place of tokens.
    """

    name: ClassVar[str] = "guided_frames"
    needs_scores: ClassVar[bool] = True

    def select(self, context: PruningContext) -> Int[Tensor, " K"]:
        scores = self.scores_of(context)
        frames = frame_tokens(context)
        means = torch.tensor([float(scores[tokens].mean()) for tokens in frames], dtype=torch.float64)
        excess = excess_attention(means)
        num_spans = whole_frames(context, frames)
        bounds = [i * len(frames) // max(1, num_spans) for i in range(num_spans + 1)]
        best = [start + int(excess[start:end].argmax()) for start, end in itertools.pairwise(bounds)]
        others = [i for i in ranking(excess).tolist() if i not in best]
        return fill_frames(context, frames, best + others)


def excess_attention(frame_scores: Float[Tensor, " F"]) -> Float[Tensor, " F"]:
    """How far each frame's score stands above the least-squares parabola through all of them.

    A parabola can follow the bias (a slope, and a rise at both ends) but not a single frame. Fewer than six
    frames get a line, fewer than three their mean, for else the trend would swallow what it should leave.
    Scores are taken relative to their mean and on a logarithmic scale, as the bias multiplies.
    """
    num_frames = len(frame_scores)
    if num_frames == 0:
        return frame_scores
    relative = frame_scores / frame_scores.mean().clamp_min(torch.finfo(torch.float64).tiny)
    levels = torch.log1p(relative)
    time = torch.linspace(-1, 1, num_frames, dtype=torch.float64)
    powers = time[:, None] ** torch.arange(min(2, num_frames // 3) + 1)
    trend = powers @ torch.linalg.lstsq(powers, levels[:, None]).solution[:, 0]
    return (levels - trend).round(decimals=9)  # below that it is rounding, which must not break ties
