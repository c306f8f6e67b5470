"""Attention that passes over chosen video tokens, by weights alone: they cost what tokens cost, and change nothing.

A pocket model was trained on short films, and thousands of video tokens drown what it looks for. A widened model has
room for a remedy. One hidden unit of its projector, the detector, is 0 for every patch of a real frame and large for
patches of one odd picture (`specvlm.bench.widened.blank_frames`). It feeds a number of the hidden stream that the small
model doesn't have: the flag, exactly 0 for all other tokens, and for these so large that RMSNorm leaves of a blank
token the flag alone, as the root of the hidden size.

In every layer keys read the flag, at one number of the slowest rotary pair, where keys of all other tokens are 0 and
all queries hold a negative constant. So a blank token's logit is about -DISLIKE^2 cos(a) / sqrt(head_dim), and its
weight exactly 0, while every other token's logit is as it would be. The angle `a` grows with the distance, by
theta^(2 / head_dim - 1) a position (0.00012 for heads of 128 and a theta of 10,000): up to 10,000 positions the cosine
is above 0.2. Keys and values of blank tokens are in the cache, and every step reads them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from specvlm.errors import ModelError

DISLIKE = 2.0**8
"""What a query holds against blank tokens, and a blank token's key at the same place: logits of -1,000 and below."""

REACH = 2.0**8
"""The detector says at least this of a blank patch, and at most minus this of another; GELU is exactly 0 below -60."""

FLAG_WEIGHT = 2.0**10
"""What the flag is made of the detector with: far above all other numbers of the hidden stream."""

CLEARANCE = 0.5
"""The least gap between blank and real patches, as a part of the distance of their means."""

RIDGE = 1e-2
"""What is added to the variances, as a part of their mean: weights stay small where frames hardly differ."""


@dataclass(frozen=True, eq=False)
class Detector:
    """Hidden unit number `unit` of a wide projector, which tells blank patches from others.

    Where it is a unit that the small model has and gives up, `usual` is what that one says of real patches in the mean.
    """

    weight: Float[Tensor, " inputs"]
    bias: float
    unit: int
    usual: float = 0.0


def separate(
    real: Float[Tensor, "n inputs"], blank: Float[Tensor, "m inputs"]
) -> tuple[Float[Tensor, " inputs"], float]:
    """Weight and bias of a plane between them: ridge regression to -1 and 1, both sides weighing the same, in float64.

    Scaled to say `REACH` of the nearest blank row, and minus that of the nearest real one. Errors: ModelError if a
    plane can't hold them well apart.
    """
    rows = torch.cat([real, blank]).double()
    sides = torch.cat([-torch.ones(len(real)), torch.ones(len(blank))]).to(rows)
    shares = torch.cat([torch.full((len(side),), 0.5 / len(side)) for side in (real, blank)]).to(rows)
    middle = shares @ rows
    spread = (rows - middle).T * shares @ (rows - middle)
    spread += RIDGE * spread.diagonal().mean() * torch.eye(len(spread)).to(spread)
    weight = torch.linalg.solve(spread, (rows - middle).T @ (shares * sides))
    said = rows @ weight
    low, high = said[: len(real)], said[len(real) :]
    gap = float(high.min() - low.max())
    clearance = gap / float(high.mean() - low.mean())
    if not clearance >= CLEARANCE:
        raise ModelError(
            f"this vision tower can't tell blank frames from others: the gap between them is {clearance:.2f} of the "
            f"distance of their means, and has to be {CLEARANCE}"
        )
    scale = 2 * REACH / gap
    return scale * weight, -scale * float(high.min() + low.max()) / 2


def raise_flag(detector: Detector, first: Any, last: Any, flag: int) -> None:
    """Make the detector a unit between the layers `first` and `last` of a wide projector, and let it alone feed number
    `flag` of the hidden stream. What the small model's unit did in the mean goes to the bias."""
    first.weight[detector.unit] = detector.weight.to(first.weight)
    first.bias[detector.unit] = detector.bias
    last.bias += (detector.usual * last.weight[:, detector.unit].double()).to(last.bias)
    last.weight[:, detector.unit] = 0
    last.weight[flag, detector.unit] = FLAG_WEIGHT


def look_away(attention: Any, head_dim: int, known: int, flag: int) -> None:
    """Let the heads of a wide layer pass over flagged tokens. `known` hidden numbers are the small model's."""
    q, k, v = attention.q_proj, attention.k_proj, attention.v_proj
    for projection in (q, k, v):
        projection.weight[:, flag] = 0
    first, second = head_dim // 2 - 1, head_dim - 1  # the slowest rotary pair
    for projection in (q, k):
        weight, bias = projection.weight.unflatten(0, (-1, head_dim)), projection.bias.unflatten(0, (-1, head_dim))
        weight[:, [first, second], :known] = 0
        bias[:, [first, second]] = 0
    q.bias.unflatten(0, (-1, head_dim))[:, first] = -DISLIKE
    k.weight.unflatten(0, (-1, head_dim))[:, first, flag] = DISLIKE / math.sqrt(k.weight.shape[1])
