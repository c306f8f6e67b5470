"""TreeCache: keys and values written in place; a rejected guess costs nothing, an accepted one is moved once.

Stock `DynamicCache` concatenates the whole cache at every step: on a long video that copy is most of a step.
"""

from __future__ import annotations

import abc
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from specvlm.engine.literals import longs

GROWTH_BLOCK = 256
"""Positions added at once when a cache turns out too small."""


class KVCache(Cache, abc.ABC):
    """What a model appends to, of one sequence: the keys and values that its next tokens attend to."""

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """As transformers' own, which first asks whether layers are missing or offloaded; here none ever are."""
        layer: Any = self.layers[layer_idx]
        return layer.update(key_states, value_states)

    @property
    @abc.abstractmethod
    def length(self) -> int:
        """Positions that a next token attends to, itself left out."""

    @abc.abstractmethod
    def truncate(self, length: int) -> None:
        """Forget, in every layer, what was appended behind the first `length` positions, if anything was.

        A cache that knows its past in some places only goes back to one of those: its `length` is then less.
        """

    @contextmanager
    def read_text(self, count: int, mask: Bool[Tensor, "count last"] | None, device: torch.device) -> Iterator[KVCache]:
        """Around one forward that appends `count` tokens of text, as `Decoder.step`: yields what the model is given.

        Interrupted between two layers, they would disagree about how much they hold: then it is as it was before.
        Errors: ValueError for a mask that this cache's layers can't follow.
        """
        before = self.length
        try:
            yield self
        except BaseException:
            self.truncate(before)
            raise

    def read_prompt(self, count: int) -> AbstractContextManager[KVCache]:
        """The same around a forward over the next `count` tokens of a prompt, as `Decoder.prefill`."""
        return self.read_text(count, None, torch.device("cpu"))


class TreeLayer(CacheLayerMixin):
    """Keys and values of one layer: `[1, kv_heads, capacity, head_dim]` each, the first `length` positions in use."""

    is_sliding = False
    keys: Tensor
    values: Tensor

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity
        self.length = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate where the layer's first keys are: with `device_map` each layer may live on another device."""
        self.keys = self._allocate(key_states, self.capacity)
        self.values = self._allocate(value_states, self.capacity)
        self.is_initialized = True

    def _allocate(self, like: Tensor, capacity: int) -> Tensor:
        batch, heads, _, dim = like.shape
        if batch != 1:
            raise ValueError(f"a TreeCache holds one sequence, not a batch of {batch}")
        with torch.inference_mode(False):  # what is made in that mode can't be written to outside of it
            return torch.empty((1, heads, capacity, dim), dtype=like.dtype, device=like.device)

    def update(
        self,
        key_states: Float[Tensor, "1 heads new dim"],
        value_states: Float[Tensor, "1 heads new dim"],
        *args: Any,
        **kwargs: Any,
    ) -> tuple[Float[Tensor, "1 heads length dim"], Float[Tensor, "1 heads length dim"]]:
        """Append, and return views of all that is in use."""
        new = key_states.shape[2]
        end = self.length + new
        if not self.is_initialized:
            self.capacity = max(self.capacity, end)
            self.lazy_initialization(key_states, value_states)
        else:
            self.reserve(end)
        # `narrow` takes a third of the time of slices, and this is asked for every layer of every forward.
        self.keys.narrow(2, self.length, new).copy_(key_states)
        self.values.narrow(2, self.length, new).copy_(value_states)
        self.length = end
        return self.keys.narrow(2, 0, end), self.values.narrow(2, 0, end)

    def reserve(self, capacity: int) -> None:
        """Make room for `capacity` positions or more."""
        if capacity <= self.capacity:
            return
        capacity = -(-capacity // GROWTH_BLOCK) * GROWTH_BLOCK
        if self.is_initialized:
            # Replaced when they are filled: another thread may be copying rows out of them.
            keys, values = self._allocate(self.keys, capacity), self._allocate(self.values, capacity)
            keys[:, :, : self.length] = self.keys[:, :, : self.length]
            values[:, :, : self.length] = self.values[:, :, : self.length]
            self.keys, self.values = keys, values
        self.capacity = capacity

    def keep(self, source: Int[Tensor, " kept"] | None, start: int, count: int) -> None:
        """Move the rows `source` (absolute positions, increasing) to `start`; None when they are already there."""
        if source is not None and self.is_initialized:
            source = source.to(self.keys.device)
            # index_select copies first, so that overlapping source and destination are safe.
            self.keys.narrow(2, start, count).copy_(self.keys.index_select(2, source))
            self.values.narrow(2, start, count).copy_(self.values.index_select(2, source))
        self.length = start + count

    def reset(self) -> None:
        self.length = 0

    def get_seq_length(self) -> int:
        return self.length

    def get_max_length(self) -> int:
        return -1  # transformers' word for "it grows"

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length + query_length, 0


class TreeCache(KVCache):
    """The KV cache of one sequence in one model.

    `capacity` is the number of positions that the prompt, the answer and one draft tree need together; a cache that
    turns out too small grows by blocks of GROWTH_BLOCK positions.
    """

    layers: list[TreeLayer]

    def __init__(self, num_layers: int, capacity: int) -> None:
        super().__init__(layers=[TreeLayer(capacity) for _ in range(num_layers)])

    @property
    def attention(self) -> list[TreeLayer]:
        """The layers that have keys and values: here, all."""
        return self.layers

    @property
    def length(self) -> int:
        """Positions in use."""
        return self.attention[0].length

    def truncate(self, length: int) -> None:
        for layer in self.attention:
            layer.length = min(layer.length, length)

    def mark(self, position: int) -> None:
        """Ask for a way back to `position`, which is about to be read. There is one to everywhere, but in caches whose
        `truncate` says otherwise."""

    def pretend(self, length: int) -> None:
        """Take whatever stands in the first `length` positions for something that was read: to measure its cost."""
        for layer in self.attention:
            layer.length = length

    @property
    def capacity(self) -> int:
        """Positions that there is room for."""
        return self.attention[0].capacity

    def reserve(self, capacity: int) -> None:
        """Make room for `capacity` positions at once: each time that a cache grows, all of it is copied."""
        for layer in self.attention:
            layer.reserve(capacity)

    def extend(self, other: TreeCache, length: int) -> None:
        """Append copies of the first `length` positions of another cache of the same model."""
        if length:
            kept = [pair for pair in zip(self.layers, other.layers, strict=True) if pair[1].is_initialized]
            for mine, theirs in kept:  # a layer that reads another one's keys has none of its own
                mine.update(theirs.keys[:, :, :length], theirs.values[:, :, :length])

    @property
    def nbytes(self) -> int:
        """Bytes allocated, in use or not."""
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in self.attention if layer.is_initialized)

    @property
    def bytes_per_position(self) -> int:
        """What one position takes in all layers together."""
        return sum(
            (layer.keys.nbytes + layer.values.nbytes) // layer.capacity
            for layer in self.attention
            if layer.is_initialized
        )

    def keep(self, path: Sequence[int], num_nodes: int) -> None:
        """Of the `num_nodes` positions appended last, keep those at `path` (increasing), close up, forget the others.

        Errors: ValueError if the path isn't increasing within 0..num_nodes-1, or more nodes are named than are held.
        """
        self.require_path(path, num_nodes)
        start = self.length - num_nodes
        still = not path or path[-1] == len(path) - 1
        source = None if still else longs([start + node for node in path])
        for layer in self.attention:
            layer.keep(source, start, len(path))

    def require_path(self, path: Sequence[int], num_nodes: int) -> None:
        """Errors: ValueError as of `keep`."""
        if not 0 <= num_nodes <= self.length:
            raise ValueError(f"can't choose among the last {num_nodes} positions of a cache that holds {self.length}")
        if list(path) != sorted({*path}) or (path and not 0 <= path[0] <= path[-1] < num_nodes):
            raise ValueError(f"a path must increase within 0..{num_nodes - 1}, not {list(path)}")

    def rollback(self, num_positions: int) -> None:
        """Forget the last `num_positions` positions."""
        self.keep((), num_positions)


def refuse_unless_taken_back(
    layer_types: Sequence[str],
    sliding_window: int | None,
    model_name: str,
    needed: int,
    replayed: Collection[str] = (),
) -> None:
    """Raise ValueError when there is no way to take a rejected guess back out of a layer's memory.

    `layer_types` are those of the transformers config. Full attention is truncated. A sliding window is too, as long as
    all `needed` positions fit in it. Of the kinds `replayed` the state is kept at the last accepted token
    (`RecurrentCache`). All others fold each token into a state for good, or drop what they would need again.
    """
    for kind in sorted({*layer_types} - {"full_attention", *replayed}):
        if kind != "sliding_attention":
            raise ValueError(
                f"{model_name} has layers of type {kind!r}, whose memory can't be rolled back after a rejected guess; "
                "full attention can be truncated, and linear attention where its recurrence can be replayed"
            )
        if sliding_window is not None and needed > sliding_window:
            raise ValueError(
                f"{model_name} attends through a sliding window of {sliding_window} positions and this "
                f"answer needs {needed}: give fewer frames or a smaller max_new_tokens"
            )
