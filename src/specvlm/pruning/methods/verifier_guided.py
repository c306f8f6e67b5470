"""The paper's pruner: what the target looks at, and an even sample of the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Int
from torch import Tensor

from specvlm.pruning.base import Number, Pruner, PruningContext, even_picks, ranking, register, round_half_up, share


@register
@final
@dataclass(frozen=True, slots=True)
class VerifierGuided(Pruner):
    """Keeps the tokens that hold most of the target's attention, then an even stride over the rest.

    Stage I is the smallest set of top tokens whose scores reach `top_p` of the total, at most K; given a
    `fraction`, it is that share of K instead (half up), and `top_p` is not used. Stage II fills K up from the
    remaining tokens in sequence order. Scores that are all zero say nothing: stage I is then empty.

    SpecVLM (arXiv:2508.16201), which uses `top_p=0.4`.
    """

    name: ClassVar[str] = "verifier_guided"
    needs_scores: ClassVar[bool] = True
    top_p: Number = 0.4
    fraction: Number | None = None

    def __post_init__(self) -> None:
        share("top_p", self.top_p)
        if self.fraction is not None:
            share("fraction", self.fraction)

    def select(self, context: PruningContext) -> Int[Tensor, " K"]:
        return torch.cat(self.stages(context)).sort().values

    def stages(self, context: PruningContext) -> tuple[Int[Tensor, " one"], Int[Tensor, " two"]]:
        scores = self.scores_of(context)
        order = ranking(scores)
        if self.fraction is None:
            reached = torch.nn.functional.pad(scores[order].cumsum(0), (1, 0))  # reached[k]: sum of the top k
            num_guided = min(int((reached < self.top_p * reached[-1]).sum()), context.num_keep)
        else:
            num_guided = round_half_up(context.num_keep * share("fraction", self.fraction))
        guided = order[:num_guided].sort().values
        rest = order[num_guided:].sort().values
        return guided, rest[even_picks(len(rest), context.num_keep - num_guided)]
