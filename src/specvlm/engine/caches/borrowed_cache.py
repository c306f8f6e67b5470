"""BorrowedCache: the target's own cache, seen by the target as its own draft, with most of the video left out.

            target's cache    system | video ............ | question, answer so far
                                 |       |  |    |                 |
    what the draft sees       system |  kept rows         | question, answer so far | its guesses
                              (view)    (copied once)       (view)                    (a round's)

Keys are rotated already, so that a kept row stays at its original position; nothing is prefilled a second time.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.cache_utils import CacheLayerMixin

from specvlm.engine.caches.kv_cache import KVCache, TreeCache, TreeLayer


class BorrowedLayer(CacheLayerMixin):
    """One layer: rows of the target's layer before `start` and from `end` on, copies of the `rows` between them, and
    `keys` and `values` of its own.

    What is borrowed is looked up at every `update`: the target's rows may have moved to a larger tensor.
    """

    is_sliding = False
    keys: Tensor
    values: Tensor

    def __init__(self, target: TreeLayer, rows: Int[Tensor, "heads kept"], start: int, end: int) -> None:
        super().__init__()
        self._target, self._start, self._end = target, start, end
        if not target.is_initialized:  # it reads another layer's keys, and so it will when it drafts
            self._kept_keys = self._kept_values = self.keys = self.values = torch.empty(1, 0, 0, 0)
            return
        index = rows.to(target.keys.device)[None, :, :, None]
        self._kept_keys = target.keys.take_along_dim(index, 2)
        self._kept_values = target.values.take_along_dim(index, 2)
        self.lazy_initialization(target.keys, target.values)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """No rows of its own; the first ones will be like the target's, and on its device."""
        self.keys, self.values = key_states[:, :, :0].clone(), value_states[:, :, :0].clone()
        self.is_initialized = True

    @property
    def num_borrowed(self) -> int:
        return self._start + self._kept_keys.shape[2] + self._target.length - self._end

    @property
    def length(self) -> int:
        return self.num_borrowed + self.keys.shape[2]

    @property
    def nbytes(self) -> int:
        """Bytes beside the target's cache."""
        return sum(held.nbytes for held in (self._kept_keys, self._kept_values, self.keys, self.values))

    def update(
        self,
        key_states: Float[Tensor, "1 heads new dim"],
        value_states: Float[Tensor, "1 heads new dim"],
        *args: Any,
        **kwargs: Any,
    ) -> tuple[Float[Tensor, "1 heads length dim"], Float[Tensor, "1 heads length dim"]]:
        """Append to its own rows, and return all rows together, made for this one forward."""
        self.keys = torch.cat([self.keys, key_states], dim=2)
        self.values = torch.cat([self.values, value_states], dim=2)
        return (
            self._together(self._target.keys, self._kept_keys, self.keys),
            self._together(self._target.values, self._kept_values, self.values),
        )

    def _together(self, borrowed: Tensor, kept: Tensor, own: Tensor) -> Tensor:
        behind = borrowed[:, :, self._end : self._target.length]
        return torch.cat([borrowed[:, :, : self._start], kept, behind, own], dim=2)

    def truncate(self, length: int) -> None:
        num_own = max(0, length - self.num_borrowed)
        self.keys, self.values = self.keys[:, :, :num_own], self.values[:, :, :num_own]

    def reset(self) -> None:
        self.lazy_initialization(self.keys, self.values)

    def get_seq_length(self) -> int:
        return self.length

    def get_max_length(self) -> int:
        return -1  # transformers' word for "it grows"

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length + query_length, 0


class BorrowedCache(KVCache):
    """What a target sees of its own cache when it drafts for itself: the paper's second setting (arXiv:2508.16201).

    All that it holds is a copy of the kept rows, made once, and the keys and values of one round's guesses. The kept
    rows are those of the kept video tokens and of any text between the first video token and the last (between two
    videos, or time stamps). Everything else is read where the target has it, as it is at that moment, and nothing is
    ever written there.
    """

    layers: list[BorrowedLayer]

    def __init__(
        self,
        target: TreeCache,
        columns: Int[Tensor, " M"],
        kept: Int[Tensor, " K"] | Int[Tensor, "layers kv_heads K"],
    ) -> None:
        """`target` has read the whole prompt; `columns` are its positions of the M video tokens, increasing.

        `kept` are sorted, unique indices into the video tokens: one choice for the whole model, or one for each layer
        and K/V head (Sparse-to-Dense, arXiv:2505.19155). Errors: ValueError for columns that the target doesn't hold,
        or a choice that isn't sorted, not of video tokens, or not for these layers and heads.
        """
        start, end = (int(columns[0]), int(columns[-1]) + 1) if len(columns) else (0, 0)
        if end > target.length:
            raise ValueError(f"the video ends at position {end}, and the target's cache holds {target.length}")
        if kept.numel() and (kept.min() < 0 or kept.max() >= len(columns) or (kept.diff() <= 0).any()):
            raise ValueError(f"kept tokens must increase within 0..{len(columns) - 1}, not {kept.tolist()}")
        held = [layer.keys.shape[1] if layer.is_initialized else 0 for layer in target.layers]
        shape = (len(held), held[0])
        if kept.ndim == 3 and kept.shape[:2] != shape:
            raise ValueError(f"a choice for each of (layers, K/V heads) {shape} is wanted, not {tuple(kept.shape[:2])}")
        between = torch.ones(end - start, dtype=torch.bool)
        between[columns - start] = False
        text = (start + between.nonzero()[:, 0]).expand(*kept.shape[:-1], -1)
        rows = torch.cat([text, columns[kept]], dim=-1).sort(-1).values
        by_layer = rows if rows.ndim == 3 else [rows.expand(heads, -1) for heads in held]
        super().__init__(
            layers=[BorrowedLayer(*each, start, end) for each in zip(target.layers, by_layer, strict=True)]
        )

    @property
    def length(self) -> int:
        """Positions that the draft attends to."""
        return self.layers[0].length

    @property
    def extra_bytes(self) -> int:
        """Bytes held beside the target's cache. Between two rounds: the kept rows, and nothing else."""
        return sum(layer.nbytes for layer in self.layers)

    def truncate(self, length: int) -> None:
        for layer in self.layers:
            layer.truncate(length)
