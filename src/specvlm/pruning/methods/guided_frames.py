"""Whole frames that the target looks at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from jaxtyping import Int
from torch import Tensor

from specvlm.pruning.base import Pruner, PruningContext, ranking, register
from specvlm.pruning.bias import excess_attention
from specvlm.pruning.framewise import best_of_spans, fill_frames, frame_means, frame_tokens, whole_frames


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
        frames = frame_tokens(context)
        excess = excess_attention(frame_means(self.scores_of(context), frames))
        best = best_of_spans(excess, whole_frames(context, frames))
        others = [i for i in ranking(excess).tolist() if i not in best]
        return fill_frames(context, frames, best + others)
