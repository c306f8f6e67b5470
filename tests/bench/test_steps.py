"""Single forwards: of all that was asked for, and behind a cache that stays as long as it was."""

from __future__ import annotations

import pytest
from transformers.cache_utils import DynamicLayer

import tiny
from specvlm.bench import steps
from specvlm.bench.steps import OURS, STOCK, measure_steps


@pytest.mark.parametrize("family", ["llava_onevision", "qwen2_5_vl", *tiny.RECURRENT])
def test_each_count_of_rows_is_ours_and_one_row_is_stock(family):
    found = measure_steps(tiny.family(tiny.model(family)), 40, rows=(1, 5, 9), repeats=2)
    assert [(step.loop, step.rows, step.cached) for step in found] == [
        (STOCK, 1, 40),
        (OURS, 1, 40),
        (OURS, 5, 40),
        (OURS, 9, 40),
    ]
    assert all(0 < step.least <= step.seconds <= step.most for step in found)


@pytest.mark.parametrize("family", ["llava_onevision", "qwen2_5_vl"])
def test_both_see_as_much_in_every_turn(family, monkeypatch):
    """One row of stock's, some of ours, behind 40 cached tokens: a turn leaves nothing for the next one to read."""
    made, read_by_stock, read_by_us = tiny.family(tiny.model(family)), [], []
    our_step = type(made.decoder).step

    def update(layer, new, *args, real=DynamicLayer.update, **kwargs):
        keys, values = real(layer, new, *args, **kwargs)
        if new.shape[-2] == 1:  # a step; all 40 at once are what it is put behind
            read_by_stock.append(keys.shape[-2])
        return keys, values

    def step(decoder, tokens, positions, mask, cache):
        read_by_us.append(cache.length + len(tokens))
        return our_step(decoder, tokens, positions, mask, cache)

    monkeypatch.setattr(DynamicLayer, "update", update)
    monkeypatch.setattr(type(made.decoder), "step", step)
    measure_steps(made, 40, rows=(1, 6), repeats=3)
    assert set(read_by_stock) == {41}
    assert read_by_us == [41, 46] * 4


@pytest.mark.parametrize("family", ["llava_onevision", *tiny.RECURRENT])
def test_what_is_cached_is_alike_for_both(family):
    made = tiny.family(tiny.model(family))
    stock, ours = steps.stock_cache(made, 17), steps.our_cache(made, 17, 4)
    assert stock.get_seq_length() == ours.length == 17
    for theirs, mine in zip(stock.layers, ours.layers, strict=True):
        if hasattr(mine, "state"):
            assert theirs.recurrent_states[0].shape == mine.state.memory.shape
            continue
        assert theirs.keys.shape == mine.keys[:, :, :17].shape
        assert theirs.keys.dtype == mine.keys.dtype
