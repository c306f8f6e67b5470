"""Attention of a tree's rows to a cache that grows in place: what a CUDA graph of a forward can hold.

`scaled_dot_product_attention` wants the cached part cut out and a mask over all of it, so its launch changes with every
token. Here the whole buffers go in, and the length stays in the device's memory: the same launch serves until the cache
is full. On CUDA it is done by Triton kernels, elsewhere by plain torch.
"""

from __future__ import annotations

import importlib.util
from functools import cache

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import pad

from specvlm.engine.kernels.tree_launch import MAX_DIM

DTYPES = (torch.bfloat16, torch.float16, torch.float32)
"""Those that the kernels take."""

SCHEMA = "(Tensor query, Tensor key, Tensor value, Tensor length, Tensor mask, float scale) -> Tensor"
"""Written out: torch could not read it off annotations that state shapes."""


@torch.library.custom_op("specvlm::tree_attention", mutates_args=(), schema=SCHEMA)
def tree_attention(
    query: Float[Tensor, "1 heads rows dim"],
    key: Float[Tensor, "1 kv_heads capacity dim"],
    value: Float[Tensor, "1 kv_heads capacity dim"],
    length: Int[Tensor, "1"],
    mask: Bool[Tensor, "rows tail"] | UInt8[Tensor, "rows tail"],
    scale: float,
) -> Float[Tensor, "1 heads rows dim"]:
    """Softmax attention of `rows` queries to what of the buffers they see. `scale`, above 0, multiplies the logits.

    All see the places below `length`; the `tail` places from there on are seen where the mask says so, places beyond
    the capacity never. A row that sees nothing gives zeros, and a place that no row sees may hold anything. `heads` is
    a multiple of `kv_heads`: neighbouring heads share theirs. Buffers may be views with any strides; nothing is read on
    the host, so a CUDA graph may hold it, once it has run outside: kernels are compiled at the first call.
    The result is laid out as [1, rows, heads, dim]: to transpose it back costs nothing.
    Errors: ValueError if shapes, dtypes or the scale are none of these.
    """
    return tree_attention_reference(query, key, value, length, mask, scale)


def tree_attention_reference(
    query: Tensor, key: Tensor, value: Tensor, length: Tensor, mask: Tensor, scale: float
) -> Tensor:
    """The same in plain torch, for any device and dtype: accumulated in float32, in float64 of float64."""
    check(query, key, value, length, mask, scale)
    heads, rows, dim = query.shape[1:]
    kv_heads, capacity = key.shape[1:3]
    tail, groups = mask.shape[1], heads // kv_heads
    wide = torch.float64 if query.dtype == torch.float64 else torch.float32
    column = torch.arange(capacity, device=key.device) - length.clamp(0, capacity)
    in_tail = (column >= 0) & (column < tail)
    sees = (column < 0) | pad(mask.bool(), (0, 1))[:, torch.where(in_tail, column, tail)]
    # 0 times NaN would be NaN.
    seen_at_all = sees.any(0)[:, None]
    keys, values = (torch.where(seen_at_all, each[0], 0).to(wide) for each in (key, value))
    folded = query[0].reshape(kv_heads, groups * rows, dim).to(wide)
    logits = (folded @ keys.mT * scale).masked_fill_(~sees.repeat(groups, 1), float("-inf"))
    shares = logits.softmax(-1).masked_fill_(~sees.any(1).repeat(groups)[:, None], 0)
    output = (shares @ values).to(query.dtype).reshape(heads, rows, dim)
    return output.transpose(0, 1).contiguous()[None].transpose(1, 2)


@tree_attention.register_kernel("cuda")
def _on_cuda(query: Tensor, key: Tensor, value: Tensor, length: Tensor, mask: Tensor, scale: float) -> Tensor:
    check(query, key, value, length, mask, scale)
    if query.dtype not in DTYPES or query.shape[-1] > MAX_DIM or not _runs_kernels(query.device):
        return tree_attention_reference(query, key, value, length, mask, scale)
    # Not at the top: builds of torch for CPUs and for macOS have no Triton.
    from specvlm.engine.kernels.tree_attention_triton import chip_of, tree_attention_triton

    with torch.cuda.device(query.device):
        return tree_attention_triton(query, key, value, length, mask, scale, chip_of(query.device))


@tree_attention.register_fake
def _shaped(query: Tensor, key: Tensor, value: Tensor, length: Tensor, mask: Tensor, scale: float) -> Tensor:
    check(query, key, value, length, mask, scale)
    _, heads, rows, dim = query.shape
    return query.new_empty(1, rows, heads, dim).transpose(1, 2)


@cache
def _runs_kernels(device: torch.device) -> bool:
    """Triton, which Windows has none of, compiles for compute capability 8.0 and later."""
    has_triton = torch.version.cuda is not None and importlib.util.find_spec("triton") is not None
    return has_triton and torch.cuda.get_device_capability(device) >= (8, 0)


def check(query: Tensor, key: Tensor, value: Tensor, length: Tensor, mask: Tensor, scale: float) -> None:
    """Errors: ValueError if these don't fit together. Only shapes and dtypes are looked at."""
    batch, heads, rows, dim = query.shape
    shapes = f"query {tuple(query.shape)}, key {tuple(key.shape)}, value {tuple(value.shape)}"
    if batch != 1 or key.shape[0] != 1 or key.shape != value.shape or key.shape[3] != dim or heads % key.shape[1]:
        raise ValueError(f"[1, heads, rows, dim] and twice [1, kv_heads, capacity, dim] were expected, not {shapes}")
    if not query.dtype == key.dtype == value.dtype:
        raise ValueError(f"query, key and value have one dtype, not {query.dtype}, {key.dtype} and {value.dtype}")
    if length.shape != (1,) or length.dtype not in (torch.int32, torch.int64):
        raise ValueError(f"length is an int32 or int64 tensor [1], not {length.dtype} {tuple(length.shape)}")
    if mask.ndim != 2 or mask.shape[0] != rows or mask.dtype not in (torch.bool, torch.uint8):
        raise ValueError(f"mask is bool or uint8 [{rows}, tail], not {mask.dtype} {tuple(mask.shape)}")
    if not scale > 0:
        raise ValueError(f"scale is above 0, not {scale}")
