"""Tokens at an even stride."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from jaxtyping import Int
from torch import Tensor

from specvlm.pruning.base import Pruner, PruningContext, even_picks, register


@register
@final
@dataclass(frozen=True, slots=True)
class Uniform(Pruner):
    """Keeps tokens at an even stride over the whole video, in sequence order.

    Needs nothing of the target, and thins every frame alike.

    Stage II of SpecVLM alone (arXiv:2508.16201).
    """

    name: ClassVar[str] = "uniform"

    def select(self, context: PruningContext) -> Int[Tensor, " K"]:
        return even_picks(context.num_tokens, context.num_keep)
