"""One run of consecutive tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final, get_args

import torch
from jaxtyping import Int
from torch import Tensor

from specvlm.errors import OptionError
from specvlm.pruning.base import Pruner, PruningContext, register

Where = Literal["front", "middle", "back"]


@register
@final
@dataclass(frozen=True, slots=True)
class Window(Pruner):
    """Keeps one run of consecutive tokens, at the front, middle or back of the video.

    Shows what a draft makes of one stretch of the video and nothing else.

    A baseline of SpecVLM (arXiv:2508.16201).
    """

    name: ClassVar[str] = "window"
    where: Where = "front"

    def __post_init__(self) -> None:
        if self.where not in get_args(Where):
            raise OptionError(f"where must be one of {', '.join(get_args(Where))}, not {self.where!r}")

    def select(self, context: PruningContext) -> Int[Tensor, " K"]:
        num_spare = context.num_tokens - context.num_keep
        start = {"front": 0, "middle": num_spare // 2, "back": num_spare}[self.where]
        return torch.arange(start, start + context.num_keep)
