"""Decoder: all that the engine sees of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

from specvlm.engine.attention import ScoreRecorder
from specvlm.engine.caches.kv_cache import KVCache, TreeCache


@dataclass(frozen=True, eq=False)
class Embeds:
    """What a language model reads of a prompt: a row for each of its L tokens and, where a model takes visual features
    in at several depths (DeepStack, arXiv:2406.04334), what the first layers add at the V tokens of `deep_mask`."""

    rows: Float[Tensor, "L D"]
    deep: Float[Tensor, "layers V D"] | None = None
    deep_mask: Bool[Tensor, " L"] | None = None

    def __len__(self) -> int:
        return self.rows.shape[0]

    def piece(self, start: int, end: int) -> Embeds:
        """The part that tokens `start` to `end` read."""
        if self.deep is None or self.deep_mask is None:
            return Embeds(self.rows[start:end])
        before, inside = int(self.deep_mask[:start].sum()), int(self.deep_mask[start:end].sum())
        return Embeds(self.rows[start:end], self.deep[:, before : before + inside], self.deep_mask[start:end])


@runtime_checkable
class Unread(Protocol):
    """`Embeds`, or what makes each piece of them when it is read."""

    def __len__(self) -> int: ...
    def piece(self, start: int, end: int) -> Embeds: ...


@runtime_checkable  # so that the shape checks of the tests can look at what is annotated with it
class Decoder(Protocol):
    """A language model that reads embeddings once and token trees after that. It owns no request's state."""

    @property
    def vocab_size(self) -> int: ...

    def new_cache(self, capacity: int, longest: int | None = None) -> TreeCache:
        """An empty cache with room for `capacity` positions, which may grow to `longest` (default: no more)."""
        ...

    def prefill(
        self,
        embeds: Embeds,
        positions: Int[Tensor, "R new"],
        cache: KVCache,
        recorder: ScoreRecorder | None = None,
    ) -> Float[Tensor, " vocab"]:
        """Append a piece of the prompt, causally. Returns the logits of its last position only."""
        ...

    def step(
        self,
        tokens: Int[Tensor, " nodes"],
        positions: Int[Tensor, "1 nodes"],
        mask: Bool[Tensor, "nodes last"] | None,
        cache: KVCache,
        *,
        as_stock: bool = False,
    ) -> Float[Tensor, "nodes vocab"]:
        """Append `nodes` tokens that see what `mask` says of the `last` positions, theirs included, and all that is
        before those (None: each sees all before it, and itself).

        They are text, which stands at one position: a model with several rows of them has the same in each. `as_stock`:
        by the kernels that stock `generate` uses for a token, even if there are faster ones, which round otherwise.
        """
        ...
