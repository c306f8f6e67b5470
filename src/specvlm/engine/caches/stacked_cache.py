"""StackedCache: a TreeCache whose layers lie in one tensor, so that rows of all layers are moved by one copy."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from specvlm.engine.caches.kv_cache import KVCache, TreeCache, TreeLayer

BUCKET = 256
"""Capacities are multiples of it, so that answers of about one length have buffers of one shape."""


def bucket(capacity: int) -> int:
    """The capacity of the buffer that holds `capacity` positions: a multiple of BUCKET, and of a 16th of itself."""
    step = max(BUCKET, 1 << max(0, capacity.bit_length() - 5))
    return -(-capacity // step) * step


@final
class Buffers:
    """Where caches of one model get their tensors: `[2, layers, kv_heads, capacity, head_dim]`, keys and then values.

    The last `num_spare` that were given back are kept, to be taken once more: what was captured over one is of use to
    the next answer too. What was never written is zero, since a masked row must not be a NaN.
    """

    def __init__(
        self,
        num_layers: int,
        kv_heads: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device,
        num_spare: int = 0,
    ) -> None:
        self._sizes, self.dtype, self.device = (num_layers, kv_heads, head_dim), dtype, device
        self._num_spare, self._spare = num_spare, list[Tensor]()

    def take(self, capacity: int) -> Float[Tensor, "2 layers heads capacity dim"]:
        """A tensor for `capacity` positions or more: a bucket of them."""
        layers, heads, dim = self._sizes
        shape = (2, layers, heads, bucket(capacity), dim)
        for place, spare in enumerate(self._spare):
            if spare.shape == shape:
                return self._spare.pop(place)
        with torch.inference_mode(False):  # what is made in that mode can't be written to outside of it
            return torch.zeros(shape, dtype=self.dtype, device=self.device)

    def give_back(self, rows: Float[Tensor, "2 layers heads capacity dim"]) -> None:
        """Nobody writes to it any more. Which of the spare ones is the oldest is given up."""
        self._spare.append(rows)
        del self._spare[: max(0, len(self._spare) - self._num_spare)]

    @property
    def spare(self) -> tuple[Tensor, ...]:
        return tuple(self._spare)


@final
@dataclass(eq=False)
class Lease:
    """What a cache has of its buffers."""

    buffers: Buffers
    rows: Tensor

    def end(self) -> None:
        self.buffers.give_back(self.rows)


class StackedLayer(TreeLayer):
    """One layer: a view of what all layers lie in."""

    def __init__(self, owner: StackedCache) -> None:
        super().__init__(0)
        # A cycle would keep the buffer from being given back as soon as nobody needs it.
        self._owner = weakref.ref(owner)

    def reserve(self, capacity: int) -> None:
        """All layers move, or none does."""
        owner = self._owner()
        assert owner is not None  # who appends to a layer holds its cache
        owner.reserve(capacity)


class StackedCache(TreeCache):
    """Keys and values of one sequence in one model, on one device.

    Its layers are views, which the host appends to as to those of any TreeCache, and a round of tensors alone through
    an `IndexedCache`. The buffer is given back when the cache is no more.
    """

    def __init__(self, buffers: Buffers, capacity: int) -> None:
        """With room for `capacity` positions or more."""
        self._lease = Lease(buffers, buffers.take(capacity))
        KVCache.__init__(self, layers=[StackedLayer(self) for _ in range(self.rows.shape[1])])
        weakref.finalize(self, self._lease.end)
        self._look()

    @property
    def rows(self) -> Float[Tensor, "2 layers heads capacity dim"]:
        """All keys, and all values."""
        return self._lease.rows

    def _look(self) -> None:
        for index, layer in enumerate(self.layers):
            layer.keys, layer.values = self.rows[0, index][None], self.rows[1, index][None]
            layer.capacity, layer.is_initialized = self.rows.shape[3], True

    def reserve(self, capacity: int) -> None:
        """Make room for `capacity` positions or more, by a move to a larger bucket: all of it is copied."""
        if capacity <= self.capacity:
            return
        buffers, smaller = self._lease.buffers, self._lease.rows
        larger = buffers.take(capacity)
        length = max(layer.length for layer in self.layers)  # in the middle of a forward they differ
        larger[:, :, :, :length] = smaller[:, :, :, :length]
        self._lease.rows = larger
        self._look()
        buffers.give_back(smaller)

    def hold(self, length: int) -> None:
        """Tell the layers how many positions are in use, when rows were written behind the host's back."""
        for layer in self.layers:
            layer.length = length
