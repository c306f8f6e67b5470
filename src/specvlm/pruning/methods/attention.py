"""The tokens that the target attends to most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from jaxtyping import Int
from torch import Tensor

from specvlm.pruning.base import Pruner, PruningContext, ranking, register


@register
@final
@dataclass(frozen=True, slots=True)
class Attention(Pruner):
    """Keeps the tokens with the highest text-to-video attention of the target.

    The picks crowd where attention has its position bias, the first and last frames, and may leave whole
    stretches of the video without a token.

    Stage I of SpecVLM alone (arXiv:2508.16201).
    """

    name: ClassVar[str] = "attention"
    needs_scores: ClassVar[bool] = True

    def select(self, context: PruningContext) -> Int[Tensor, " K"]:
        return ranking(self.scores_of(context))[: context.num_keep].sort().values
