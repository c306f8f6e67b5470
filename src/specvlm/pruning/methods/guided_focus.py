"""The frames that the target looks at, and in them what it looks at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specvlm.pruning.base import Number, Pruner, PruningContext, even_picks, ranking, register, share
from specvlm.pruning.bias import above_trend, excess_attention, levels_of
from specvlm.pruning.framewise import best_of_spans, frame_means, frame_tokens, placeless_tokens


@register
@final
@dataclass(frozen=True, slots=True)
class GuidedFocus(Pruner):
    """Keeps the tokens that the target attends to most, in as few frames as a density allows.

    `density` is the share of a frame's tokens to keep: 1 puts K into as few frames as can hold it, less spreads it over
    more, and 0 over all. The draft's vision tower skips the frames of which nothing is kept, so that a higher density
    spares vision work, and shows frames more like those that the draft was trained on; a lower one shows more moments.
    Only where all frames together hold less than K at that density are they filled further.

    Frames are chosen as in `guided_frames`, the best of each of equal spans of time, and filled alike. Tokens without
    a place get their share of K, rounded up, for a model expects to see its video closed.

    Within a frame a bias over time is the same for all, and one over places decides: the smooth trend that all frames
    have in common is taken off (arXiv:2508.17807). Each place's own mean stays: without it a thing that stands still
    would count for nothing, and most of a picture does.

    Our own: the target's scores of SpecVLM (arXiv:2508.16201) choose frames first and tokens second.
    """

    name: ClassVar[str] = "guided_focus"
    needs_scores: ClassVar[bool] = True
    density: Number = 1.0

    def __post_init__(self) -> None:
        share("density", self.density)

    def select(self, context: PruningContext) -> Int[Tensor, " K"]:
        scores, frames, placeless = self.scores_of(context), frame_tokens(context), placeless_tokens(context)
        num_placeless = math.ceil(Fraction(context.num_keep * len(placeless), max(1, context.num_tokens)))
        num_placed = context.num_keep - num_placeless
        excess = excess_attention(frame_means(scores, frames))
        chosen = fewest_frames(excess, [len(tokens) for tokens in frames], num_placed, share("density", self.density))
        levels = token_levels(scores, frames, context.place_ids.cpu())
        ranked = [frames[i][ranking(levels[frames[i]])] for i in ranking(excess).tolist() if i in chosen]
        kept = [placeless[even_picks(len(placeless), num_placeless)], fill_alike(ranked, num_placed)]
        return torch.cat(kept).sort().values


def fewest_frames(excess: Float[Tensor, " F"], sizes: Sequence[int], num_keep: int, density: Fraction) -> list[int]:
    """The best frame of each of as few equal spans of time as hold `num_keep` tokens, `density` of each kept.

    Never more frames than tokens to keep; where even all are too few, all.
    """
    most = min(len(sizes), num_keep)
    fewest = min(most, math.ceil(num_keep / (density * max(sizes, default=1)))) if density else most
    chosen: list[int] = []
    for num_spans in range(fewest, most + 1):
        chosen = best_of_spans(excess, num_spans)
        if density * sum(sizes[i] for i in chosen) >= num_keep:
            break
    return chosen


def token_levels(
    scores: Float[Tensor, " M"], frames: Sequence[Int[Tensor, " _"]], place_ids: Int[Tensor, " M"]
) -> Float[Tensor, " M"]:
    """How much more of its frame's attention a token has than the trend over places (0 for one without a place)."""
    levels = torch.zeros_like(scores)
    for tokens in frames:
        levels[tokens] = levels_of(scores[tokens])
    placed = place_ids >= 0
    levels[placed] = above_trend(levels[placed], place_ids[placed])
    return levels


def fill_alike(ranked: Sequence[Int[Tensor, " _"]], num_keep: int) -> Int[Tensor, " kept"]:
    """Spend `num_keep` on frames, given as their tokens from the best on, so that all are filled to the same share.

    Each next token goes to the frame that is filled the least, of equals to the one named first (the divisor method
    of Adams): every frame gets its first token before any gets its second, and a larger budget keeps what a smaller
    one does.
    """
    fills = [torch.arange(len(tokens), dtype=torch.float64) / len(tokens) for tokens in ranked]
    tokens = torch.cat([torch.empty(0, dtype=torch.long), *ranked])
    return tokens[torch.cat([torch.empty(0), *fills]).sort(stable=True).indices[:num_keep]]
