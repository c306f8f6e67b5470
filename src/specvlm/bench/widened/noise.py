"""Random numbers for weights whose values can't matter, written at the speed of copying."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

STRIP = 4_194_301
"""Numbers drawn; a prime, so that no matrix repeats in step with its rows."""

SCALE = 0.02
"""Their standard deviation: what transformers draws fresh weights with."""


@final
class Noise:
    """An endless tape of normal numbers: one strip of them, over and over, each tensor from where the last one ended.

    Drawing 7 billion numbers takes minutes, copying them seconds, and what memory costs to read doesn't depend on
    whether numbers come again 8 MB further on. What counts is that every page is written: memory that never was is one
    shared page of zeros, which a cache serves.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self._strip = (SCALE * torch.randn(STRIP, generator=generator)).to(device, dtype)
        self._next = 0

    @torch.no_grad()
    def fill(self, tensor: Tensor) -> None:
        """Overwrite all of a contiguous tensor. Errors: RuntimeError (torch's) if it isn't contiguous."""
        rest = tensor.view(-1)
        while len(rest):
            piece = self._strip[self._next : self._next + len(rest)]
            rest[: len(piece)].copy_(piece)
            self._next = (self._next + len(piece)) % STRIP
            rest = rest[len(piece) :]
