"""Tokens as unlike each other as can be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Int
from torch import Tensor

from specvlm.pruning.base import Pruner, PruningContext, register


@register
@final
@dataclass(frozen=True, slots=True)
class Diverse(Pruner):
    """Keeps tokens that differ: each next one is the farthest, by cosine, from all kept before it.

    Greedy max-min diversity. Only each token's likeness to its nearest kept one is stored, no M x M matrix:
    O(M) memory beside the features, O(M K D) time. The first token is the one least like the mean direction;
    DivPrune's is the one farthest from its nearest neighbour, and all pairs are needed to find it.

    DivPrune (arXiv:2503.02175).
    """

    name: ClassVar[str] = "diverse"
    needs_features: ClassVar[bool] = True

    def select(self, context: PruningContext) -> Int[Tensor, " K"]:
        directions = self.directions_of(context)
        kept = torch.empty(context.num_keep, dtype=torch.long, device=directions.device)
        if context.num_keep == 0:
            return kept.cpu()
        kept[0] = (directions @ directions.mean(0)).argmin()
        nearest = directions @ directions[kept[0]]
        nearest[kept[0]] = torch.inf
        for i in range(1, context.num_keep):
            kept[i] = nearest.argmin()
            nearest = torch.maximum(nearest, directions @ directions[kept[i]])
            nearest[kept[i]] = torch.inf
        return kept.sort().values.cpu()
