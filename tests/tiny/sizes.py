"""How big a tiny language model is."""

from __future__ import annotations

from dataclasses import dataclass

from tiny.words import VOCABULARY


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Two query heads a K/V head, and initial weights so large that answers wander instead of repeating a token."""

    layers: int = 3
    hidden: int = 32
    heads: int = 4
    kv_heads: int = 2
    vocabulary: int = VOCABULARY
    tied: bool = False
    """Whether the output head is the embedding, as in the smaller checkpoints."""
    spread: float = 0.4
    """Standard deviation of the initial weights."""
