"""StackedCache: a TreeCache in one tensor; and how rounds write to it, at places that only tensors know."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from specvlm.engine.caches.indexed_cache import IndexedCache
from specvlm.engine.caches.kv_cache import TreeCache
from specvlm.engine.caches.stacked_cache import BUCKET, Buffers, StackedCache, bucket

LAYERS, HEADS, DIM = 3, 2, 4


def empty(capacity: int = 10) -> StackedCache:
    return StackedCache(Buffers(LAYERS, HEADS, DIM, torch.float64, torch.device("cpu")), capacity)


def rows(count: int, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of some positions, for each layer."""
    dice = torch.Generator().manual_seed(seed)
    shape = (1, HEADS, count, DIM)
    return [
        tuple(torch.randn(shape, generator=dice, dtype=torch.float64) for _ in range(2))  # type: ignore[misc]
        for _ in range(LAYERS)
    ]


def append(cache: TreeCache, new: list[tuple[Tensor, Tensor]]) -> None:
    for layer, (keys, values) in enumerate(new):
        cache.update(keys, values, layer)


def held(cache: TreeCache) -> list[Tensor]:
    return [each[:, :, : cache.length] for layer in cache.layers for each in (layer.keys, layer.values)]


def alike(one: TreeCache, other: TreeCache) -> bool:
    return one.length == other.length and all(map(torch.equal, held(one), held(other)))


# --- buckets --------------------------------------------------------------------------------------------------------


@given(capacity=st.integers(1, 1 << 22))
def test_a_bucket_holds_what_is_wanted_and_little_more(capacity):
    """A 16th at most, once that is more than the smallest step."""
    size = bucket(capacity)
    assert size >= capacity
    assert size % BUCKET == 0
    assert size - capacity < max(BUCKET, capacity / 16)
    assert bucket(size) == size


def test_above_4096_positions_a_bucket_is_never_a_tenth_too_large():
    wanted = [*range(4097, 70000, 97), *(1 << power for power in range(13, 23)), *((1 << p) + 1 for p in range(13, 23))]
    assert max(bucket(capacity) / capacity for capacity in wanted) < 1.07


def test_answers_of_about_one_length_have_one_bucket():
    assert len({bucket(capacity) for capacity in range(1, 16385)}) == 48
    assert len({bucket(capacity) for capacity in range(8193, 16385)}) == 16
    assert [bucket(each) for each in (1, 256, 257, 4096, 4097)] == [256, 256, 512, 4096, 4352]


# --- as any TreeCache -----------------------------------------------------------------------------------------------


@given(steps=st.lists(st.tuples(st.integers(1, 90), st.integers(0, 2**16), st.booleans()), min_size=1, max_size=6))
def test_it_holds_what_a_tree_cache_holds(steps):
    """Rows come, some of them are kept, and buffers grow."""
    stacked, plain = empty(1), TreeCache(LAYERS, 1)
    for turn, (count, lot, goes) in enumerate(steps):
        for cache in (stacked, plain):
            append(cache, rows(count, turn))
            if goes:
                cache.keep([node for node in range(count) if lot >> (node % 16) & 1], count)
        assert alike(stacked, plain)
    assert stacked.capacity == bucket(stacked.capacity)


def test_its_layers_are_views_of_one_tensor():
    cache = empty()
    append(cache, rows(4))
    assert cache.rows.shape == (2, LAYERS, HEADS, BUCKET, DIM)
    for index, layer in enumerate(cache.layers):
        assert layer.keys.data_ptr() == cache.rows[0, index].data_ptr()
        assert layer.values.data_ptr() == cache.rows[1, index].data_ptr()
    assert cache.nbytes == cache.rows.nbytes
    assert cache.bytes_per_position * BUCKET == cache.rows.nbytes


def test_what_was_never_written_is_zero_before_and_after_it_has_grown():
    """A masked row must not be a NaN: nothing times that is not nothing."""
    cache = empty()
    assert not cache.rows.any()
    append(cache, rows(9))
    cache.reserve(3 * BUCKET)
    assert not cache.rows[:, :, :, 9:].any()


def test_it_can_be_written_to_outside_of_inference_mode_wherever_it_grew():
    with torch.inference_mode():
        cache = empty()
        append(cache, rows(3))
        cache.reserve(2 * BUCKET)
    append(cache, rows(2, seed=1))
    IndexedCache(cache.rows).move(torch.tensor([1]), torch.tensor([0]))
    assert cache.length == 5


@pytest.mark.parametrize("wanted", [1, BUCKET, BUCKET + 1, 40 * BUCKET])
def test_a_reserve_keeps_all_that_is_held(wanted):
    cache, same = empty(), TreeCache(LAYERS, 10)
    for each in (cache, same):
        append(each, rows(200))
        each.reserve(wanted)
    assert alike(cache, same)
    assert cache.capacity == bucket(max(wanted, BUCKET))
    assert {layer.capacity for layer in cache.layers} == {cache.capacity}


def test_a_bucket_that_overflows_in_the_middle_of_a_forward_moves_all_layers():
    """When the first layer has its new rows and the others don't."""
    cache, plain = empty(), TreeCache(LAYERS, 10)
    for turn, count in enumerate((BUCKET - 2, 5, 300)):
        for each in (cache, plain):
            append(each, rows(count, turn))
    assert alike(cache, plain)
    assert cache.capacity == bucket(BUCKET + 303)


@pytest.mark.parametrize("layer", range(LAYERS))
def test_no_layer_loses_what_another_has_not_written_yet(layer):
    cache, new = empty(), rows(BUCKET + 1)
    append(cache, rows(7, seed=1))
    before = [each.clone() for each in held(cache)]
    for index in range(layer):
        cache.update(*(each[:, :, : BUCKET - 7] for each in new[index]), index)
    cache.layers[layer].reserve(2 * BUCKET)
    assert all(torch.equal(ours[:, :, :7], theirs) for ours, theirs in zip(
        [each for one in cache.layers for each in (one.keys, one.values)], before, strict=True))  # fmt: skip
    for index in range(layer):
        assert torch.equal(cache.layers[index].keys[:, :, 7:BUCKET], new[index][0][:, :, : BUCKET - 7])


def test_it_begins_with_a_copy_of_another():
    first, second = empty(), empty()
    append(first, rows(300))
    second.extend(first, 290)
    assert second.length == 290
    assert all(torch.equal(one[:, :, :290], two) for one, two in zip(held(first), held(second), strict=True))
    assert first.rows.data_ptr() != second.rows.data_ptr()


# --- rows are moved -------------------------------------------------------------------------------------------------


@given(moves=st.dictionaries(st.integers(0, 9), st.integers(0, 9), min_size=1))
def test_a_move_reads_everything_before_it_writes(moves):
    cache = empty()
    append(cache, rows(10))
    before = cache.rows.clone()
    IndexedCache(cache.rows).move(torch.tensor(list(moves.values())), torch.tensor(list(moves)))
    right = before.clone()
    for destination, source in moves.items():
        right[:, :, :, destination] = before[:, :, :, source]
    assert torch.equal(cache.rows, right)


def test_a_move_does_what_keep_does():
    moved, kept = empty(), empty()
    for cache in (moved, kept):
        append(cache, rows(5))
        append(cache, rows(6, seed=1))
    IndexedCache(moved.rows).move(5 + torch.tensor([0, 2, 3, 5]), 5 + torch.arange(4))
    moved.hold(9)
    kept.keep([0, 2, 3, 5], 6)
    assert alike(moved, kept)


# --- IndexedCache ---------------------------------------------------------------------------------------------------


def test_rows_are_written_at_the_slots_and_seen_up_to_the_bound():
    cache = empty()
    append(cache, rows(8))
    before, indexed, new = cache.rows.clone(), IndexedCache(cache.rows), rows(3, seed=1)
    indexed.slots, indexed.bound = torch.tensor([9, 2, 8]), 10
    for layer in range(LAYERS):
        keys, values = indexed.update(*new[layer], layer)
        assert keys.shape == values.shape == (1, HEADS, 10, DIM)
        assert torch.equal(keys[:, :, indexed.slots], new[layer][0])
        assert torch.equal(values[:, :, indexed.slots], new[layer][1])
        assert keys.data_ptr() == cache.layers[layer].keys.data_ptr()
    untouched = [place for place in range(BUCKET) if place not in (2, 8, 9)]
    assert torch.equal(cache.rows[:, :, :, untouched], before[:, :, :, untouched])


def test_the_host_knows_nothing_of_it_until_it_is_told():
    cache = empty()
    append(cache, rows(8))
    indexed = IndexedCache(cache.rows)
    indexed.slots = torch.tensor([8])
    indexed.update(*rows(1)[0], 0)
    assert (indexed.length, cache.length) == (0, 8)
    indexed.truncate(3)
    assert cache.length == 8
    cache.hold(9)
    assert [layer.length for layer in cache.layers] == [9] * LAYERS


def test_models_that_ask_are_told_the_bound():
    indexed = IndexedCache(empty().rows)
    indexed.bound = 12
    assert indexed.get_mask_sizes(3, 0) == (12, 0)
    assert indexed.layers[0].get_max_length() == 12
