"""StackedCache: a TreeCache whose layers lie in one tensor, so that rows of all layers are moved by one copy."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specvlm.engine.caches.kv_cache import KVCache, TreeCache, TreeLayer

BUCKET = 256
"""Capacities are multiples of it, so that answers of about one length have buffers of one shape."""


def bucket(capacity: int) -> int:
    """The capacity of the buffer that holds `capacity` positions: a multiple of BUCKET, and of a 16th of itself."""
    step = max(BUCKET, 1 << max(0, capacity.bit_length() - 5))
    return -(-capacity // step) * step


class StackedLayer(TreeLayer):
    """One layer: a view of what all layers lie in."""

    def __init__(self, owner: StackedCache) -> None:
        super().__init__(0)
        self._owner = owner

    def reserve(self, capacity: int) -> None:
        """All layers move, or none does."""
        self._owner.reserve(capacity)


class StackedCache(TreeCache):
    """Keys and values of one sequence in one model, on one device: `[2, layers, kv_heads, capacity, head_dim]`.

    Its layers are views, which the host appends to as to those of any TreeCache, and a round of tensors alone through
    an `IndexedCache`. What was never written is zero: a masked row must not be a NaN.
    """

    def __init__(
        self, num_layers: int, kv_heads: int, head_dim: int, capacity: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        """The capacity is rounded up to a bucket's."""
        KVCache.__init__(self, layers=[StackedLayer(self) for _ in range(num_layers)])
        shape = (2, num_layers, kv_heads, bucket(capacity), head_dim)
        with torch.inference_mode(False):  # what is made in that mode can't be written to outside of it
            self._hold(torch.zeros(shape, dtype=dtype, device=device))

    def _hold(self, rows: Float[Tensor, "2 layers heads capacity dim"]) -> None:
        self.rows = rows
        for index, layer in enumerate(self.layers):
            layer.keys, layer.values = rows[0, index][None], rows[1, index][None]
            layer.capacity, layer.is_initialized = rows.shape[3], True

    def reserve(self, capacity: int) -> None:
        """Make room for `capacity` positions or more, by a move to a larger bucket: all of it is copied."""
        if capacity <= self.capacity:
            return
        layers, heads, dim = self.rows.shape[1], self.rows.shape[2], self.rows.shape[4]
        with torch.inference_mode(False):
            larger = self.rows.new_zeros((2, layers, heads, bucket(capacity), dim))
        held = max(layer.length for layer in self.layers)  # in the middle of a forward they differ
        larger[:, :, :, :held] = self.rows[:, :, :, :held]
        self._hold(larger)

    def move(self, source: Int[Tensor, " n"], destination: Int[Tensor, " n"]) -> None:
        """Copy the rows at `source` (absolute positions) to `destination`, in all layers; the two may overlap."""
        self.rows.index_copy_(3, destination, self.rows.index_select(3, source))

    def hold(self, length: int) -> None:
        """Tell the layers how many positions are in use, when rows were written behind the host's back."""
        for layer in self.layers:
            layer.length = length
