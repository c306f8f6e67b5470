"""Tree attention by Triton kernels: what they are launched with. A chip is given, so that any can be asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import triton
from jaxtyping import Float
from torch import Tensor

from specvlm.engine.kernels.tree_kernels import attend, merge
from specvlm.engine.kernels.tree_launch import Chip, Launch, Shape, choose

MERGED_AT_ONCE = 4096
"""Numbers that a block of the merge holds: 32 a thread."""


def attend_constants(launch: Launch, groups: int, dim: int) -> dict[str, int]:
    """What `attend` is compiled for."""
    tile = launch.tile
    return {
        "GROUPS": groups, "DIM": dim, "BLOCK_ROWS": tile.rows, "BLOCK_KEYS": tile.keys, "BLOCK_TAIL": tile.tail_keys,
        "BLOCK_DIM": tile.dim,
    }  # fmt: skip


def merge_constants(launch: Launch, groups: int, dim: int) -> dict[str, int]:
    """What `merge` is compiled for: few splits leave a block more columns."""
    splits = triton.next_power_of_2(launch.splits)
    columns = max(16, min(launch.tile.dim, MERGED_AT_ONCE // splits))
    return {
        "GROUPS": groups, "DIM": dim, "BLOCK_KEYS": launch.tile.keys, "BLOCK_SPLITS": splits, "BLOCK_DIM": columns,
    }  # fmt: skip


@cache
def chip_of(device: torch.device) -> Chip:
    """Of a CUDA device."""
    has = torch.cuda.get_device_properties(device)
    return Chip(
        processors=has.multi_processor_count,
        shared_per_block=has.shared_memory_per_block_optin,
        shared_per_processor=has.shared_memory_per_multiprocessor,
        by_warpgroup=has.major in (9, 10),
    )


@dataclass(frozen=True)
class Splits:
    """What `attend` leaves behind. Splits without keys are not written."""

    launch: Launch
    shares: Float[Tensor, "kv_heads folded splits dim"]
    log_sums: Float[Tensor, "kv_heads folded splits"]


def tree_attention_triton(
    query: Tensor, key: Tensor, value: Tensor, length: Tensor, mask: Tensor, scale: float, chip: Chip
) -> Tensor:
    """`tree_attention` by these kernels, on the current device. They allocate, and read nothing on the host."""
    splits = attend_splits(query, key, value, length, mask, scale, chip)
    return merge_splits(splits, length, query, key.shape[2])


def attend_splits(
    query: Tensor, key: Tensor, value: Tensor, length: Tensor, mask: Tensor, scale: float, chip: Chip
) -> Splits:
    """The softmax of each split by itself."""
    _, heads, rows, dim = query.shape
    kv_heads, capacity, groups = key.shape[1], key.shape[2], heads // key.shape[1]
    launch = choose(Shape(kv_heads, groups, rows, dim, query.element_size(), capacity, mask.shape[1]), chip)
    mask = mask.view(torch.uint8)
    shares = torch.empty(kv_heads, rows * groups, launch.splits, dim, dtype=torch.float32, device=query.device)
    log_sums = torch.empty(shares.shape[:-1], dtype=torch.float32, device=query.device)
    _launch(
        attend, (launch.row_blocks, kv_heads, launch.splits),
        query, key, value, length, mask, shares, log_sums,
        *query.stride()[1:], *key.stride()[1:], *value.stride()[1:], *mask.stride(),
        scale * math.log2(math.e), rows, mask.shape[1], capacity,
        launch.tail_splits, launch.tail_steps, launch.prefix_splits,
        **attend_constants(launch, groups, dim),
        num_warps=launch.tile.num_warps, num_stages=launch.tile.num_stages,
    )  # fmt: skip
    return Splits(launch, shares, log_sums)


def merge_splits(splits: Splits, length: Tensor, query: Tensor, capacity: int) -> Tensor:
    """All splits as one softmax: of `query`'s shape and dtype."""
    _, heads, rows, dim = query.shape
    launch, folded = splits.launch, splits.shares.shape[1]
    output = torch.empty(1, rows, heads, dim, dtype=query.dtype, device=query.device)
    constants = merge_constants(launch, folded // rows, dim)
    _launch(
        merge, (heads * rows, triton.cdiv(dim, constants["BLOCK_DIM"])),
        splits.shares, splits.log_sums, length, output,
        rows, heads, capacity, launch.tail_splits, launch.prefix_splits,
        **constants, num_warps=4,
    )  # fmt: skip
    return output.transpose(1, 2)


def _launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: int) -> None:
    """Triton takes more than a kernel's signature says."""
    kernel[grid](*arguments, **options)
