"""TreeCache against a list: whatever is appended, kept and rolled back, bit for bit what a list would hold."""

from __future__ import annotations

import jaxtyping
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from specvlm.engine.caches.kv_cache import GROWTH_BLOCK, TreeCache, refuse_unless_taken_back

HEADS, DIM, LAYERS = 2, 3, 2


def rows(first: int, count: int, layer: int) -> tuple[Tensor, Tensor]:
    """Keys and values that occur once: each row knows its number and its layer."""
    number = torch.arange(first, first + count).reshape(1, 1, count, 1) + 1000 * layer
    head = torch.arange(HEADS).reshape(1, HEADS, 1, 1) / 4
    keys = number + head + torch.arange(DIM) / 16
    return keys, -keys


def append(cache: TreeCache, first: int, count: int) -> list[tuple[Tensor, Tensor]]:
    return [cache.update(*rows(first, count, layer), layer) for layer in range(LAYERS)]


def assert_holds(cache: TreeCache, numbers: list[int]) -> None:
    assert cache.length == cache.get_seq_length() == len(numbers)
    for index, layer in enumerate(cache.layers):
        assert layer.length == layer.get_seq_length() == len(numbers)
        if not layer.is_initialized:
            continue
        keys, values = rows(0, max(numbers, default=0) + 1, index)
        assert torch.equal(layer.keys[:, :, : len(numbers)], keys[:, :, numbers])
        assert torch.equal(layer.values[:, :, : len(numbers)], values[:, :, numbers])


operations = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 40)),
        st.tuples(st.just("keep"), st.lists(st.booleans(), max_size=26)),
        st.tuples(st.just("rollback"), st.integers(0, 30)),
        st.tuples(st.just("truncate"), st.integers(0, 60)),
        st.tuples(st.just("reset"), st.none()),
    ),
    max_size=25,
)


@given(operations, st.integers(0, 60))
def test_it_is_a_list_that_can_forget(operations, capacity):
    cache, model, next_number = TreeCache(LAYERS, capacity), [], 0
    for name, argument in operations:
        if name == "append":
            model += range(next_number, next_number + argument)
            for layer, (keys, values) in enumerate(append(cache, next_number, argument)):
                expected_keys, expected_values = rows(0, next_number + argument, layer)
                assert torch.equal(keys, expected_keys[:, :, model])  # what the attention gets to see
                assert torch.equal(values, expected_values[:, :, model])
            next_number += argument
        elif name == "keep":
            flags = argument[: len(model)]
            path = [i for i, flag in enumerate(flags) if flag]
            start = len(model) - len(flags)
            cache.keep(path, len(flags))
            model = model[:start] + [model[start + i] for i in path]
        elif name == "rollback":
            count = min(argument, len(model))
            cache.rollback(count)
            model = model[: len(model) - count]
        elif name == "truncate":
            cache.truncate(argument)
            model = model[:argument]
        else:
            cache.reset()
            model = []
        assert_holds(cache, model)


def test_accepted_nodes_close_up_behind_what_was_there():
    cache = TreeCache(LAYERS, 20)
    append(cache, 0, 10)
    append(cache, 10, 6)
    cache.keep((0, 2, 5), 6)
    assert_holds(cache, [*range(10), 10, 12, 15])


def test_a_path_that_is_in_place_already_is_not_moved():
    cache = TreeCache(LAYERS, 20)
    append(cache, 0, 10)
    before = cache.layers[0].keys[:, :, :10].clone()  # behind them is memory that was never written, maybe NaN
    cache.keep((0, 1, 2), 6)
    assert_holds(cache, list(range(7)))
    assert torch.equal(cache.layers[0].keys[:, :, :10], before)


@pytest.mark.parametrize(
    ("path", "num_nodes"),
    [((0, 0), 3), ((1, 0), 3), ((3,), 3), ((-1,), 3), ((0,), 0), ((0, 1, 2, 2), 3), ((), 6), ((), -1)],
)
def test_what_is_no_path_is_refused_and_changes_nothing(path, num_nodes):
    cache = TreeCache(LAYERS, 9)
    append(cache, 0, 5)
    with pytest.raises(ValueError, match=r"path must increase|last -?\d+ positions"):
        cache.keep(path, num_nodes)
    assert_holds(cache, list(range(5)))


@pytest.mark.parametrize("count", [6, -1])
def test_no_more_can_be_rolled_back_than_is_held(count):
    cache = TreeCache(LAYERS, 9)
    append(cache, 0, 5)
    with pytest.raises(ValueError, match=f"last {count} positions of a cache that holds 5"):
        cache.rollback(count)
    assert_holds(cache, list(range(5)))


def test_what_only_some_layers_took_in_is_forgotten_by_all():
    """A forward that breaks off leaves them disagreeing about how much they hold."""
    cache = TreeCache(LAYERS, 9)
    append(cache, 0, 5)
    cache.update(*rows(5, 3, 0), 0)
    cache.truncate(5)
    assert_holds(cache, list(range(5)))


def test_a_batch_is_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # the shape annotation would be faster
    cache = TreeCache(1, 9)
    with pytest.raises(ValueError, match="not a batch of 2"):
        cache.update(torch.zeros(2, 1, 3, 4), torch.zeros(2, 1, 3, 4), 0)


def test_it_is_allocated_once_and_written_in_place():
    cache = TreeCache(LAYERS, 50)
    assert cache.nbytes == 0
    pointers = set()
    for first in range(0, 50, 5):
        pointers |= {keys.data_ptr() for keys, _ in append(cache, first, 5)}
        assert cache.nbytes == LAYERS * HEADS * 50 * 2 * DIM * 4
    assert len(pointers) == LAYERS


def test_too_small_it_grows_by_blocks_and_keeps_what_it_held():
    cache = TreeCache(LAYERS, 10)
    append(cache, 0, 10)
    append(cache, 10, 1)
    assert_holds(cache, list(range(11)))
    assert cache.layers[0].capacity == GROWTH_BLOCK
    append(cache, 11, GROWTH_BLOCK)
    assert_holds(cache, list(range(11 + GROWTH_BLOCK)))
    assert cache.layers[0].capacity == 2 * GROWTH_BLOCK
    assert cache.nbytes == LAYERS * HEADS * 2 * GROWTH_BLOCK * 2 * DIM * 4


def test_a_first_append_larger_than_the_capacity_fits_exactly():
    cache = TreeCache(LAYERS, 3)
    append(cache, 0, 7)
    assert cache.layers[0].capacity == 7


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_it_holds_what_the_model_computes_in(dtype):
    cache = TreeCache(1, 4)
    keys, values = cache.update(torch.ones(1, 1, 2, 2, dtype=dtype), torch.ones(1, 1, 2, 2, dtype=dtype), 0)
    assert keys.dtype == values.dtype == dtype


def test_it_tells_transformers_what_it_asks_for():
    cache = TreeCache(LAYERS, 4)
    append(cache, 0, 3)
    assert cache.get_mask_sizes(2, 0) == (5, 0)
    assert cache.is_sliding == [False] * LAYERS


@pytest.mark.parametrize("kind", ["linear_attention", "mamba", "chunked_attention"])
def test_a_memory_that_cannot_be_rolled_back_is_refused_by_name(kind):
    with pytest.raises(ValueError, match=f"some model has layers of type '{kind}'"):
        refuse_unless_taken_back(["full_attention", kind], None, "some model", 10)


def test_a_sliding_window_is_fine_until_the_answer_outgrows_it():
    layers = ["full_attention", "sliding_attention"]
    refuse_unless_taken_back(layers, 100, "some model", 100)
    refuse_unless_taken_back(layers, None, "some model", 10_000)  # a window that is switched off
    with pytest.raises(ValueError, match=r"some model attends through a sliding window of 100 .* needs 101"):
        refuse_unless_taken_back(layers, 100, "some model", 101)
    refuse_unless_taken_back(["full_attention"], 100, "some model", 10_000)  # a window that no layer looks through
