"""The attention function that specvlm lends to models for the length of one forward.

It computes what stock `sdpa` computes, with two differences. Query heads that share a K/V head are folded into the
query axis, [1, heads, rows, dim] -> [1, kv_heads, groups * rows, dim], so that K and V are never copied (stock sdpa
expands them whenever there is a mask: gigabytes a step on a long video). And a ScoreRecorder may watch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from specvlm.engine.kernels.lending import Borrower
from specvlm.engine.kernels.tree_attention import tree_attention

AttentionFunction = Callable[..., tuple[Tensor, Any]]
"""What transformers' AttentionInterface holds: (module, query, key, value, attention_mask, **more)."""

Seen = slice | Tensor
"""Places in a cache: a slice of them, or their numbers."""


class ScoreRecorder:
    """Text-to-video attention, averaged over layers, heads and text queries (SpecVLM, arXiv:2508.16201).

    `columns` are the cache positions of the M video tokens, and `first_row` that of the first query that is watched:
    of the text behind the video. Each layer's matrix is reduced as soon as it is made, one K/V head at a time; float64
    models are scored in float64, all others in float32. `per_head` keeps what each layer and K/V head looked at too.
    """

    def __init__(self, columns: Int[Tensor, " M"], first_row: int = 0, *, per_head: bool = False) -> None:
        self.columns, self.first_row, self.per_head = columns, first_row, per_head
        self.seconds = 0.0
        self._total: Tensor | None = None
        self._num_rows = 0
        self._by_layer: dict[int, Tensor] = {}

    def record(
        self,
        query: Float[Tensor, "1 heads rows dim"],
        key: Float[Tensor, "1 kv_heads length dim"],
        scaling: float,
        layer: int,
    ) -> None:
        """Add attention of one layer. The rows are the last `rows` positions of the `length` cached ones."""
        kv_heads, length = key.shape[1], key.shape[2]
        if self.first_row >= length:
            return
        start = time.perf_counter()
        query = query[:, :, max(0, self.first_row - (length - query.shape[2])) :]
        heads, rows = query.shape[1], query.shape[2]
        wide = torch.float64 if query.dtype == torch.float64 else torch.float32
        columns = self.columns.to(key.device)
        future = causal_mask(rows, length, key.device).logical_not_()
        folded = query.reshape(kv_heads, heads // kv_heads, rows, -1)
        total = torch.zeros(len(columns), dtype=wide, device=key.device)
        by_head = []
        for head in range(kv_heads):
            logits = (folded[head].to(wide) @ key[0, head].to(wide).T) * scaling
            attention = logits.masked_fill_(future, float("-inf")).softmax(-1)
            looks = attention.sum((0, 1))[columns]
            total += looks
            by_head.append(looks)
        if self.per_head:
            self._by_layer[layer] = self._by_layer.get(layer, 0) + torch.stack(by_head)
        self._total = total if self._total is None else self._total + total.to(self._total.device)
        self._num_rows += heads * rows
        self.seconds += time.perf_counter() - start

    def scores(self) -> Float[Tensor, " M"]:
        """Mean attention of each video token, in float32 or float64. Errors: ValueError if nothing was recorded."""
        if self._total is None:
            raise ValueError("no attention was recorded: the model never called specvlm's attention function")
        return self._total / self._num_rows

    def scores_per_head(self) -> Float[Tensor, "layers kv_heads M"]:
        """Mean attention of each video token in each layer and K/V head, over the query heads that share it.

        The mean over layers and heads is `scores`. Errors: ValueError if nothing was recorded, or not `per_head`.
        """
        if not self._by_layer:
            raise ValueError("no attention was recorded per head: give per_head=True, and let the model prefill")
        layers = [self._by_layer[layer] for layer in sorted(self._by_layer)]
        totals = torch.stack([layer.to(layers[0].device) for layer in layers])
        # Each layer and K/V head has an equal share of the rows that were summed.
        return totals * (totals.shape[0] * totals.shape[1] / self._num_rows)


def causal_mask(rows: int, length: int, device: torch.device) -> Bool[Tensor, "rows length"]:
    """True where one of the last `rows` of `length` positions may attend: everything up to itself."""
    return torch.ones(rows, length, dtype=torch.bool, device=device).tril_(length - rows)


def sight(length: Int[Tensor, " 1"], tail: Bool[Tensor, "rows tail"], bound: int) -> Bool[Tensor, "rows bound"]:
    """True where a row may attend: to all of the first `length` places, and behind them to what `tail` says.

    Every row sees one place at least, be the `length` 0, if it sees itself. The device alone knows the length.
    """
    behind = torch.arange(bound, device=tail.device) - length
    in_tail = (behind >= 0) & (behind < tail.shape[1])
    return (behind < 0) | (tail.index_select(1, behind.clamp(0, tail.shape[1] - 1)) & in_tail)


def folded_mask(
    mask: Bool[Tensor, "rows last"], groups: int, dtype: torch.dtype, length: int | None = None
) -> Float[Tensor, "1 1 folded length"]:
    """The additive mask of all `groups` query heads of a K/V head, stacked: made once a forward, not once a layer.

    Of a `length` that is more than the `last` columns of the mask, all see what is before those.
    """
    rows, last = mask.shape
    length = last if length is None else length
    additive = torch.zeros((groups, rows, length), dtype=dtype, device=mask.device)
    additive.narrow(2, length - last, last).masked_fill_(~mask, float("-inf"))
    return additive.view(1, 1, groups * rows, length)


@final
class Folding:
    """A mask of one forward, folded once for each number of query heads that share a K/V head: one number in most
    models, in some another for each kind of layer."""

    __slots__ = ("_dtype", "_folded", "_length", "_mask")

    def __init__(self, mask: Bool[Tensor, "rows last"], dtype: torch.dtype, length: int | None = None) -> None:
        self._mask, self._dtype, self._length = mask, dtype, length
        self._folded: dict[int, Tensor] = {}

    def of(self, groups: int) -> Float[Tensor, "1 1 folded length"]:
        """The `folded_mask` for so many query heads a K/V head."""
        made = self._folded.get(groups)
        if made is None:
            made = self._folded[groups] = folded_mask(self._mask, groups, self._dtype, self._length)
        return made


def attention_forward(
    module: nn.Module,
    query: Float[Tensor, "1 heads rows dim"],
    key: Float[Tensor, "1 kv_heads length dim"],
    value: Float[Tensor, "1 kv_heads length dim"],
    attention_mask: Any = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    *,
    mask: Float[Tensor, "1 1 folded columns"] | Folding | None = None,
    recorder: ScoreRecorder | None = None,
    kernel: Callable[..., Tensor] = scaled_dot_product_attention,
    alone: Sequence[Seen] | None = None,
    **kwargs: Any,
) -> tuple[Float[Tensor, "1 rows heads value_dim"], None]:
    """Signature of transformers' AttentionInterface: called after rotary embedding and cache update.

    `mask` is a `folded_mask`, or what makes it, as the `kernel` wants it, or None for a causal one. `alone`, what each
    row sees, has them attend one by one. An `attention_mask` that transformers made is not looked at: it is of the kind
    that the model's own attention wants.
    """
    batch, heads, rows, dim = query.shape
    kv_heads, length = key.shape[1], key.shape[2]
    groups = heads // kv_heads
    if recorder is not None:
        recorder.record(query, key, dim**-0.5 if scaling is None else scaling, module.layer_idx)  # type: ignore[arg-type]
    if alone is not None:
        return one_by_one(query, key, value, alone, scaling).transpose(1, 2).contiguous(), None
    if mask is None and rows == length:
        # The whole prompt at once: no mask to store, and the same kernel as stock sdpa.
        output = scaled_dot_product_attention(
            query, key, value, dropout_p=dropout, scale=scaling, is_causal=rows > 1, enable_gqa=groups > 1
        )
        return output.transpose(1, 2).contiguous(), None
    if mask is None and rows > 1:
        mask = folded_mask(causal_mask(rows, length, key.device), groups, query.dtype)
    elif mask is not None:
        mask = mask.of(groups) if isinstance(mask, Folding) else mask
        mask = mask.to(key.device)  # with `device_map` each layer may live on another device
    folded = query.reshape(batch, kv_heads, groups * rows, dim)
    output = kernel(folded, key, value, attn_mask=mask, dropout_p=dropout, scale=scaling)
    return output.reshape(batch, heads, rows, value.shape[-1]).transpose(1, 2).contiguous(), None


def attention_in_place(
    module: nn.Module,
    query: Float[Tensor, "1 heads rows dim"],
    key: Float[Tensor, "1 kv_heads capacity dim"],
    value: Float[Tensor, "1 kv_heads capacity dim"],
    attention_mask: Any = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    *,
    length: Int[Tensor, " 1"],
    tail: Bool[Tensor, "rows tail"],
    **kwargs: Any,
) -> tuple[Float[Tensor, "1 rows heads dim"], None]:
    """As `attention_forward`, over whole buffers: all rows see the first `length` places, and behind them each what
    `tail` says. A CUDA graph may hold it."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return tree_attention(query, key, value, length, tail, scale).transpose(1, 2).contiguous(), None


def seen_by_each(mask: Bool[Tensor, "rows last"], length: int | None = None) -> list[Seen]:
    """What each row of a tree sees: a slice where it is all up to some place, which needs no copy.

    Of a `length` that is more than the `last` columns of the mask, all see what is before those.
    """
    before = 0 if length is None else length - mask.shape[1]
    counts = mask.sum(1).tolist()
    return [
        slice(before + count)
        if bool(row[:count].all())
        else torch.cat([torch.arange(before), before + row.nonzero()[:, 0]])
        for row, count in zip(mask, counts, strict=True)
    ]


def one_by_one(
    query: Float[Tensor, "1 heads rows dim"],
    key: Float[Tensor, "1 kv_heads length dim"],
    value: Float[Tensor, "1 kv_heads length value_dim"],
    seen: Sequence[Seen],
    scaling: float | None,
) -> Float[Tensor, "1 heads rows value_dim"]:
    """Each row over what it sees and nothing else, by the call that stock sdpa makes for a token of plain decoding.

    From the same keys and values come the same numbers to the bit. The cache is read once a row, which takes time.
    """
    is_grouped, outputs = query.shape[1] > key.shape[1], []
    for row, places in enumerate(seen):
        if isinstance(places, slice):
            keys, values = key[:, :, places], value[:, :, places]
        else:
            places = places.to(key.device)
            keys, values = key.index_select(2, places), value.index_select(2, places)
        one = query[:, :, row : row + 1]
        outputs.append(scaled_dot_product_attention(one, keys, values, scale=scaling, enable_gqa=is_grouped))
    return torch.cat(outputs, dim=2)


def without_cudnn(device: torch.device) -> AbstractContextManager[object]:
    """A block in which torch attends on a GPU by any kernel but cuDNN's, which makes a plan for every new length of
    keys: in a cache that grows, for every token. The switch is the process's, and as it was when the block ends."""
    if device.type != "cuda":
        return nullcontext()
    return sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH])


_LOOK_UP = Borrower(ALL_ATTENTION_FUNCTIONS, "get_interface")
"""Where models ask transformers what to attend with."""


def lend_attention(
    function: AttentionFunction, on_ask: Callable[..., None] = lambda *asked: None
) -> AbstractContextManager[None]:
    """A block in which models attend with `function`, in this thread alone.

    What is replaced is transformers' way to look attention functions up: stock `generate` of the very same model in
    another thread keeps its own attention and the masks that go with it. `on_ask` is told what each layer asked for,
    (name, function that it has itself), and may raise.
    """
    return _LOOK_UP.lend(partial(_look_up, function, on_ask))


def _look_up(
    function: AttentionFunction, on_ask: Callable[..., None], /, *asked: Any, **named: Any
) -> AttentionFunction:
    on_ask(*asked, *named.values())
    return function
