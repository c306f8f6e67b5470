"""IndexedCache: how a round of tensors alone writes to a buffer: at places that only the device knows."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.cache_utils import CacheLayerMixin

from specvlm.engine.caches.kv_cache import KVCache


class IndexedLayer(CacheLayerMixin):
    """One layer of a buffer, written at `slots` and read as a whole up to `bound`."""

    is_sliding = False
    is_initialized = True

    def __init__(self, owner: IndexedCache, index: int) -> None:
        super().__init__()
        self._owner, self._index = owner, index

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """There is nothing to wait for."""

    def update(
        self,
        key_states: Float[Tensor, "1 heads new dim"],
        value_states: Float[Tensor, "1 heads new dim"],
        *args: Any,
        **kwargs: Any,
    ) -> tuple[Float[Tensor, "1 heads bound dim"], Float[Tensor, "1 heads bound dim"]]:
        """Write at the slots, and return views of all positions below the bound, in use or not."""
        owner = self._owner
        keys, values = owner.rows[0, self._index], owner.rows[1, self._index]
        keys.index_copy_(1, owner.slots, key_states[0])
        values.index_copy_(1, owner.slots, value_states[0])
        return keys[None, :, : owner.bound], values[None, :, : owner.bound]

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return self._owner.bound

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._owner.bound, 0


class IndexedCache(KVCache):
    """A buffer as one forward after the other writes to it. Which positions are in use isn't its affair: whoever
    attends knows, from a tensor.

    `slots` [new] are the positions that the next forward writes; `bound`, that no forward looks at a position from
    there on.
    """

    layers: list[IndexedLayer]
    slots: Int[Tensor, " new"]

    def __init__(self, rows: Float[Tensor, "2 layers heads capacity dim"]) -> None:
        self.rows, self.bound = rows, rows.shape[3]
        self.slots = torch.empty(0, dtype=torch.long, device=rows.device)
        super().__init__(layers=[IndexedLayer(self, index) for index in range(rows.shape[1])])

    @property
    def length(self) -> int:
        """What the host knows of it."""
        return 0

    def truncate(self, length: int) -> None:
        """Nothing is to be forgotten: what is in use is counted elsewhere."""

    def move(self, source: Int[Tensor, " n"], destination: Int[Tensor, " n"]) -> None:
        """Copy the rows at `source` (absolute positions) to `destination`, in all layers; the two may overlap."""
        self.rows.index_copy_(3, destination, self.rows.index_select(3, source))
