"""The tokens that the target attends to least."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from jaxtyping import Int
from torch import Tensor

from specvlm.pruning.base import Pruner, PruningContext, ranking, register


@register
@final
@dataclass(frozen=True, slots=True)
class AttentionReverse(Pruner):
    """Keeps the tokens with the lowest text-to-video attention of the target: a control.

    The other end of the ranking of `attention`, ties included (the higher index first), so that the two have
    no token in common at ratios of 0.5 and more. If it drafts as well as `attention`, the scores say nothing.

    The reversed ranking in the code of SpecVLM (arXiv:2508.16201).
    """

    name: ClassVar[str] = "attention_reverse"
    needs_scores: ClassVar[bool] = True

    def select(self, context: PruningContext) -> Int[Tensor, " K"]:
        return ranking(self.scores_of(context)).flip(0)[: context.num_keep].sort().values
