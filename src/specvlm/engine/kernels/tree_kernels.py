"""Tree attention on NVIDIA GPUs, in Triton: split over keys, the prefix without a mask, merged by log-sum-exp.

A block takes some folded rows of one K/V head (row * groups + group: all queries that share it) and some of the keys.

    keys   0 ........................ whole ....... length ........ length + tail
           whole steps, all are seen: | its rest, and the tail: what the mask says
           shared by prefix_splits    | shared by tail_splits

Where these borders are is read from `length` by each block; a split that has no keys then returns at once. What is left
for the merge: the share of each split, normalised, and the base-2 logarithm of its sum of exponentials.
"""

# Triton gives parameters their types when it compiles a kernel.
# pyright: reportMissingParameterType=false

from __future__ import annotations

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def _load(pointers, inside, d, DIM: tl.constexpr, BLOCK_DIM: tl.constexpr, CHECKED: tl.constexpr):
    """A tile [n, BLOCK_DIM], zero outside. What need not be checked isn't: the compiler could not find that out."""
    if DIM == BLOCK_DIM:
        if CHECKED:
            return tl.load(pointers, mask=inside[:, None], other=0.0)
        return tl.load(pointers)
    if CHECKED:
        return tl.load(pointers, mask=inside[:, None] & (d < DIM)[None, :], other=0.0)
    return tl.load(pointers, mask=(d < DIM)[None, :], other=0.0)


@triton.jit
@no_type_check
def _nothing(BLOCK_ROWS: tl.constexpr, BLOCK_DIM: tl.constexpr):
    """What `_add` begins with."""
    sums = tl.zeros((BLOCK_ROWS, BLOCK_DIM), tl.float32)
    peak = tl.full((BLOCK_ROWS,), float("-inf"), tl.float32)
    return sums, peak, tl.zeros((BLOCK_ROWS,), tl.float32)


@triton.jit
@no_type_check
def _add(logits, v, sums, peak, total, scale):
    """Softmax as it goes: `sums` and `total` relative to the highest logit so far, `peak`."""
    higher = tl.maximum(peak, tl.max(logits, 1))
    # A row that has seen nothing has no peak to subtract.
    base = tl.where(higher == float("-inf"), 0.0, higher) * scale
    shares = tl.exp2(logits * scale - base[:, None])
    fade = tl.exp2(peak * scale - base)
    total = total * fade + tl.sum(shares, 1)
    sums = tl.dot(shares.to(v.dtype), v, sums * fade[:, None], input_precision="ieee")
    return sums, higher, total


@triton.jit
@no_type_check
def _borders(Length, capacity, prefix_splits, BLOCK_KEYS: tl.constexpr):
    """The length, whole steps before it, and how many splits share them. A length that can't be is cut."""
    length = tl.minimum(tl.maximum(tl.load(Length), 0), capacity).to(tl.int32)
    steps = length // BLOCK_KEYS
    return length, steps, tl.minimum(prefix_splits, steps)


@triton.jit
@no_type_check
def _over_prefix(
    q, key, value, key_place, value_place, key_dim, value_dim, first, last, scale,
    DIM: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_KEYS: tl.constexpr, BLOCK_DIM: tl.constexpr,
):  # fmt: skip
    """Whole steps from `first` to `last`: no mask, no border."""
    n, d = tl.arange(0, BLOCK_KEYS), tl.arange(0, BLOCK_DIM)
    keys = n[:, None] * key_place + d[None, :] * key_dim
    values = n[:, None] * value_place + d[None, :] * value_dim
    sums, peak, total = _nothing(BLOCK_ROWS, BLOCK_DIM)
    key += first.to(tl.int64) * BLOCK_KEYS * key_place
    value += first.to(tl.int64) * BLOCK_KEYS * value_place
    for _ in range(first, last):
        k = _load(key + keys, n, d, DIM, BLOCK_DIM, False)
        logits = tl.dot(q, tl.trans(k), input_precision="ieee")
        v = _load(value + values, n, d, DIM, BLOCK_DIM, False)
        sums, peak, total = _add(logits, v, sums, peak, total, scale)
        key += BLOCK_KEYS * key_place
        value += BLOCK_KEYS * value_place
    return sums, peak, total


@triton.jit
@no_type_check
def _over_tail(
    q, key, value, key_place, value_place, key_dim, value_dim, first, last, scale,
    Mask, mask_rows, mask_column, length,
    DIM: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_TAIL: tl.constexpr, BLOCK_DIM: tl.constexpr,
):  # fmt: skip
    """Places from `first` to `last`: those from `length` on are seen where the mask says so."""
    n, d = tl.arange(0, BLOCK_TAIL), tl.arange(0, BLOCK_DIM)
    keys = n[:, None] * key_place + d[None, :] * key_dim
    values = n[:, None] * value_place + d[None, :] * value_dim
    sums, peak, total = _nothing(BLOCK_ROWS, BLOCK_DIM)
    key += first.to(tl.int64) * key_place
    value += first.to(tl.int64) * value_place
    # One step is in flight at a time: for the few that there are a pipeline costs more registers than it wins time.
    for start in tl.range(first, last, BLOCK_TAIL, num_stages=1):
        inside, column = start + n < last, start + n - length
        k = _load(key + keys, inside, d, DIM, BLOCK_DIM, True)
        bits = Mask + (mask_rows[:, None] + (column * mask_column)[None, :])
        allowed = tl.load(bits, mask=((column >= 0) & inside)[None, :], other=0) != 0
        sees = allowed | (column < 0)[None, :]
        logits = tl.where(sees, tl.dot(q, tl.trans(k), input_precision="ieee"), float("-inf"))
        # A place that nobody sees may hold anything, and 0 times NaN would be NaN.
        seen_at_all = inside & (tl.max(sees.to(tl.int32), 0) > 0)
        v = _load(value + values, seen_at_all, d, DIM, BLOCK_DIM, True)
        sums, peak, total = _add(logits, v, sums, peak, total, scale)
        key += BLOCK_TAIL * key_place
        value += BLOCK_TAIL * value_place
    return sums, peak, total


@triton.jit(do_not_specialize=["rows", "tail", "capacity", "tail_splits", "tail_steps", "prefix_splits"])
@no_type_check
def attend(
    Query, Key, Value, Length, Mask, Shares, LogSums,
    query_head, query_row, query_dim, key_head, key_place, key_dim, value_head, value_place, value_dim,
    mask_row, mask_column,
    scale, rows, tail, capacity, tail_splits, tail_steps, prefix_splits,
    GROUPS: tl.constexpr, DIM: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_KEYS: tl.constexpr, BLOCK_TAIL: tl.constexpr, BLOCK_DIM: tl.constexpr,
):  # fmt: skip
    """Shares [kv_heads, rows * GROUPS, splits, DIM] and LogSums [kv_heads, rows * GROUPS, splits] of one block.

    Strides are in elements. `scale` has log2(e) in it.
    """
    block, kv_head, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    length, steps, sharing = _borders(Length, capacity, prefix_splits, BLOCK_KEYS)
    if split >= tail_splits + sharing:
        return
    folded = rows * GROUPS
    m = block * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    d = tl.arange(0, BLOCK_DIM)
    # Rows behind the last do what it does, and are not stored.
    row, head = tl.minimum(m // GROUPS, rows - 1), kv_head * GROUPS + m % GROUPS
    at = head * query_head + row * query_row
    q = _load(Query + at[:, None] + d[None, :] * query_dim, m, d, DIM, BLOCK_DIM, False)
    # A big cache is beyond 32 bits: heads and steps are counted in 64, and 32 do inside a step.
    key = Key + kv_head.to(tl.int64) * key_head
    value = Value + kv_head.to(tl.int64) * value_head
    if split < tail_splits:
        first = steps * BLOCK_KEYS + split * tail_steps * BLOCK_TAIL
        last = tl.minimum(first + tail_steps * BLOCK_TAIL, tl.minimum(length + tail, capacity))
        sums, peak, total = _over_tail(
            q, key, value, key_place, value_place, key_dim, value_dim, first, last, scale,
            Mask, row * mask_row, mask_column, length,
            DIM, BLOCK_ROWS, BLOCK_TAIL, BLOCK_DIM,
        )  # fmt: skip
    else:
        part = split - tail_splits
        sums, peak, total = _over_prefix(
            q, key, value, key_place, value_place, key_dim, value_dim,
            part * steps // sharing, (part + 1) * steps // sharing, scale,
            DIM, BLOCK_ROWS, BLOCK_KEYS, BLOCK_DIM,
        )  # fmt: skip
    nothing = total == 0.0
    safe = tl.where(nothing, 1.0, total)
    into = (kv_head.to(tl.int64) * folded + m) * (tail_splits + prefix_splits) + split
    tl.store(LogSums + into, tl.where(nothing, float("-inf"), peak * scale + tl.log2(safe)), mask=m < folded)
    inside = (m < folded)[:, None] & (d < DIM)[None, :]
    tl.store(Shares + into[:, None] * DIM + d[None, :], sums / safe[:, None], mask=inside)


@triton.jit(do_not_specialize=["rows", "heads", "capacity", "tail_splits", "prefix_splits"])
@no_type_check
def merge(
    Shares, LogSums, Length, Output,
    rows, heads, capacity, tail_splits, prefix_splits,
    GROUPS: tl.constexpr, DIM: tl.constexpr,
    BLOCK_KEYS: tl.constexpr, BLOCK_SPLITS: tl.constexpr, BLOCK_DIM: tl.constexpr,
):  # fmt: skip
    """Output [rows, heads, DIM]: one folded row and BLOCK_DIM of its columns."""
    which, slice_ = tl.program_id(0), tl.program_id(1)
    _, _, sharing = _borders(Length, capacity, prefix_splits, BLOCK_KEYS)
    split = tl.arange(0, BLOCK_SPLITS)
    d = slice_ * BLOCK_DIM + tl.arange(0, BLOCK_DIM)
    at = which.to(tl.int64) * (tail_splits + prefix_splits) + split
    # The others were never written.
    written = split < tail_splits + sharing
    log_sums = tl.load(LogSums + at, mask=written, other=float("-inf"))
    shares = tl.load(Shares + at[:, None] * DIM + d[None, :], mask=written[:, None] & (d < DIM)[None, :], other=0.0)
    peak = tl.max(log_sums, 0)
    weights = tl.exp2(log_sums - tl.where(peak == float("-inf"), 0.0, peak))
    total = tl.sum(weights, 0)
    mixed = tl.sum(shares * weights[:, None], 0) / tl.where(total == 0.0, 1.0, total)
    folded = rows * GROUPS
    m = which % folded
    head = which // folded * GROUPS + m % GROUPS
    into = ((m // GROUPS).to(tl.int64) * heads + head) * DIM + d
    tl.store(Output + into, mixed.to(Output.dtype.element_ty), mask=d < DIM)
