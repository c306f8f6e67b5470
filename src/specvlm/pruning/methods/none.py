"""The pruner that does not prune."""

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
class KeepAll(Pruner):
    """Keeps every video token, whatever the ratio: plain speculative decoding.

    The only method that does not look at K; the yardstick of what any other one loses.

    The draft of ordinary speculative decoding (arXiv:2211.17192).
    """

    name: ClassVar[str] = "none"

    def select(self, context: PruningContext) -> Int[Tensor, " M"]:
        return torch.arange(context.num_tokens)
