"""Tokens by lot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Int
from torch import Tensor

from specvlm.errors import OptionError
from specvlm.pruning.base import Pruner, PruningContext, register


@register
@final
@dataclass(frozen=True, slots=True)
class Random(Pruner):
    """Keeps tokens drawn by lot, the same ones for the same seed.

    With one seed, what a high ratio keeps a lower one keeps too.

    A baseline of SpecVLM (arXiv:2508.16201).
    """

    name: ClassVar[str] = "random"
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed < 2**63:
            raise OptionError(f"seed must be a whole number from 0 to 2**63 - 1, not {self.seed!r}")

    def select(self, context: PruningContext) -> Int[Tensor, " K"]:
        generator = torch.Generator().manual_seed(self.seed)
        return torch.randperm(context.num_tokens, generator=generator)[: context.num_keep].sort().values
