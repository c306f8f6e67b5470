"""How tree attention is launched: every key and row once, what fits the chip, the same for any length."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specvlm.engine.kernels.tree_launch import A100, H100, MAX_SPLITS, Chip, Shape, choose

SMALL = Chip(40, 64 << 10, 64 << 10, by_warpgroup=False)
RTX_4090 = Chip(128, 99 << 10, 100 << 10, by_warpgroup=False)

shapes = st.builds(
    Shape,
    kv_heads=st.integers(1, 16),
    groups=st.integers(1, 16),
    rows=st.integers(1, 256),
    dim=st.sampled_from([16, 64, 80, 96, 128, 256]),
    itemsize=st.sampled_from([2, 4]),
    capacity=st.integers(1, 200_000),
    tail=st.integers(0, 600),
)


@given(shapes, st.sampled_from([A100, H100, SMALL, RTX_4090]))
def test_everything_has_a_place_in_a_launch_that_a_chip_can_make(shape, chip):
    launch = choose(shape, chip)
    tile = launch.tile
    assert shape.folded <= launch.row_blocks * tile.rows < shape.folded + tile.rows
    assert tile.dim >= shape.dim
    # The tail begins at a whole step before the length: at most keys - 1 places earlier.
    assert launch.tail_splits * launch.tail_steps * tile.tail_keys >= shape.tail + tile.keys - 1
    assert 1 <= launch.prefix_splits <= max(1, shape.capacity // tile.keys)
    assert launch.splits <= MAX_SPLITS
    assert tile.shared_bytes(shape.itemsize, chip) <= chip.shared_per_block
    assert all(side >= 16 and side & (side - 1) == 0 for side in (tile.rows, tile.keys, tile.tail_keys, tile.dim))


@pytest.mark.parametrize(
    ("shape", "blocks", "splits"),
    [
        (Shape(4, 7, 26, 128, 2, 12_526, 32), (3, 64), 22),  # one wave of 264 blocks, two a processor
        (Shape(4, 7, 64, 128, 2, 12_564, 64), (4, 128), 16),  # two of 132, with two warpgroups each
        (Shape(4, 7, 1, 128, 2, 12_501, 32), (1, 16), 66),  # one of 264, three steps each
        (Shape(2, 7, 4, 64, 2, 1_304, 32), (1, 32), 21),  # as many as there are steps, and the tail
    ],
)
def test_an_h100_is_filled(shape, blocks, splits):
    launch = choose(shape, H100)
    assert ((launch.row_blocks, launch.tile.rows), launch.splits) == (blocks, splits)


def test_more_rows_never_make_smaller_blocks_of_keys_and_many_are_not_left_to_one_processor():
    for rows in range(1, 257):
        launch = choose(Shape(4, 7, rows, 128, 2, 12_800, rows), H100)
        blocks = launch.row_blocks * 4 * launch.splits
        assert launch.tile.keys == 64
        assert blocks >= 0.8 * H100.processors
