"""What attention owes to position alone, taken off.

Attention leans on positions whatever they show: to the first and last frames of a video, and to the lower rows of
a picture, which stand closer to the question (arXiv:2508.17807). Such a bias is smooth; what a frame or a token
stands out by is not.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def levels_of(scores: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Scores relative to their mean, on a logarithmic scale from 0, where a bias that multiplies about adds."""
    return torch.log1p(scores / scores.mean().clamp_min(torch.finfo(scores.dtype).tiny))


def excess_attention(frame_scores: Float[Tensor, " F"]) -> Float[Tensor, " F"]:
    """How far each frame's level stands above the trend over time."""
    return above_trend(levels_of(frame_scores), torch.arange(len(frame_scores)))


def above_trend(levels: Float[Tensor, " n"], positions: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """How far each level stands above the least-squares parabola through all of them.

    A parabola can follow a bias (a slope, and a rise at both ends) but nothing small. Fewer than six different
    positions get a line, fewer than three the mean, for else the trend would swallow what it should leave.
    """
    if len(levels) == 0:
        return levels
    degree = min(2, len(positions.unique()) // 3)
    first, last = positions.aminmax()
    scaled = 2 * (positions - first).double() / (last - first).clamp_min(1) - 1
    powers = scaled[:, None] ** torch.arange(degree + 1)
    trend = powers @ torch.linalg.lstsq(powers, levels[:, None]).solution[:, 0]
    return (levels - trend).round(decimals=9)  # below that it is rounding, which must not break ties
