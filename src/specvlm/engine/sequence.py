"""Sequence: everything that belongs to one answer in flight, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from specvlm.engine.caches.kv_cache import TreeCache
from specvlm.engine.sampling import Chooser
from specvlm.engine.stats import Stats

FinishReason = Literal["eos", "stop", "length"]


@dataclass(frozen=True)
class Stopping:
    """When an answer ends. `criterion` looks at prompt and answer together, as transformers' stopping criteria do."""

    max_new_tokens: int
    eos_ids: frozenset[int] = frozenset()
    criterion: Callable[[Int[Tensor, "1 length"]], bool] | None = None


@dataclass
class Sequence:
    """One answer in flight. `next_position` is where its first token stands, right behind the prompt."""

    prompt_ids: Int[Tensor, " L"]
    next_position: int
    cache: TreeCache
    chooser: Chooser
    stopping: Stopping
    stats: Stats = field(default_factory=Stats)
    tokens: list[int] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    listener: Callable[[int], None] | None = None
    """Told of each token of the answer, in order, once it was asked whether the answer ends with it."""

    def history(self, more: tuple[int, ...] = ()) -> Int[Tensor, " length"]:
        """Prompt, answer so far, and `more`."""
        return torch.cat([self.prompt_ids, self.prompt_ids.new_tensor([*self.tokens, *more])])

    @property
    def num_left(self) -> int:
        """How many more tokens may be emitted."""
        return self.stopping.max_new_tokens - len(self.tokens)

    def reason_to_stop(self, more: tuple[int, ...]) -> FinishReason | None:
        """Why the answer would end with `more`'s last token, or None. The criterion is asked about each of them."""
        criterion = self.stopping.criterion
        stops = criterion is not None and criterion(self.history(more)[None])
        if more[-1] in self.stopping.eos_ids:
            return "eos"
        if stops:
            return "stop"
        return "length" if len(more) >= self.num_left else None

    def ends_with(self, more: tuple[int, ...]) -> bool:
        """Whether the answer ends with `more`'s last token, and why from then on.

        To be asked once for each token of the answer, in order, as stock `generate` asks: a criterion may count, and
        may look at what a listener has heard, which is all but the token that it is asked about.
        """
        self.finish_reason = self.reason_to_stop(more)
        self.tell(more[-1:])
        return self.finish_reason is not None

    def tell(self, more: tuple[int, ...]) -> None:
        """Let the listener hear tokens; those of which `ends_with` is asked, it has."""
        if self.listener is not None:
            for token in more:
                self.listener(token)

    def emit(self, more: tuple[int, ...]) -> None:
        """Append tokens, of each of which `ends_with` was asked."""
        self.tokens.extend(more)
