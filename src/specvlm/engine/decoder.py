"""Decoder: all that the engine sees of a model."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

from specvlm.engine.attention import ScoreRecorder
from specvlm.engine.kv_cache import TreeCache


@runtime_checkable  # so that the shape checks of the tests can look at what is annotated with it
class Decoder(Protocol):
    """A language model that reads embeddings once and token trees after that. It owns no request's state."""

    vocab_size: int

    def new_cache(self, capacity: int, longest: int | None = None) -> TreeCache:
        """An empty cache with room for `capacity` positions, which may grow to `longest` (default: no more)."""
        ...

    def prefill(
        self,
        embeds: Float[Tensor, "new D"],
        positions: Int[Tensor, "R new"],
        cache: TreeCache,
        recorder: ScoreRecorder | None = None,
    ) -> Float[Tensor, " vocab"]:
        """Append a piece of the prompt, causally. Returns the logits of its last position only."""
        ...

    def step(
        self,
        tokens: Int[Tensor, " nodes"],
        positions: Int[Tensor, "R nodes"],
        mask: Bool[Tensor, "nodes length"] | None,
        cache: TreeCache,
    ) -> Float[Tensor, "nodes vocab"]:
        """Append `nodes` tokens that see what `mask` says (None: each sees all before it, and itself)."""
        ...
