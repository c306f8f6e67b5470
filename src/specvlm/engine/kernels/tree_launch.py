"""How tree attention is cut into blocks for a chip: arithmetic of shapes, without Triton and without a GPU.

No GPU has timed these choices. They are reasoned for an H100, and the compiler has checked them (docs/kernels.md):

- 26 rows of 28 heads over 4 are 182 folded rows for each K/V head. wgmma multiplies 64 rows a warpgroup, so they are 3
  blocks of 64 with 95 % of their rows in use, where 2 of 128 would use 71 %. The 3 run side by side and read K and V
  once from memory, twice from L2: 77 MB, 15 us at 5 TB/s, beside 4.7 GFLOP, 10 us at half the chip's rate.
- 64 keys a step and 3 stages take 112 KB at dim 128: two blocks share a processor. Their step is 2 x 4 warps of 354
  instructions, 700 cycles on 4 schedulers, beside 1,000 cycles of wgmma: 10 steps are some 10 us.
- The prefix is split so that all blocks run in whole waves: 20 splits and 2 of the tail here, 264 blocks on 132
  processors.
- Up to 16 or 32 folded rows reading is all that counts: small mma blocks, as many splits as there are steps to share.
- Many rows take 128 a block and two warpgroups where that leaves few empty: half the reads from L2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

MAX_DIM = 256
"""The widest head that fits a block."""

MAX_SPLITS = 128
"""The merge holds a share of all of them at once."""

OVERHEAD = 2
"""What a block costs beside its steps over keys, in such steps: its queries, its first loads, what it leaves behind."""

SLACK = 1.15
"""How many more rows, empty ones among them, larger blocks may have."""


@dataclass(frozen=True)
class Chip:
    """What of a GPU matters here. Shared memory in bytes."""

    processors: int
    shared_per_block: int
    shared_per_processor: int
    by_warpgroup: bool
    """Whether 64 rows and more are multiplied out of shared memory: wgmma, and what came after it for data centres."""


A100 = Chip(108, 163 << 10, 164 << 10, by_warpgroup=False)
H100 = Chip(132, 227 << 10, 228 << 10, by_warpgroup=True)


@dataclass(frozen=True)
class Shape:
    """What is asked for: `rows` queries of `kv_heads` * `groups` heads; the mask is [rows, tail]."""

    kv_heads: int
    groups: int
    rows: int
    dim: int
    itemsize: int
    capacity: int
    tail: int

    @property
    def folded(self) -> int:
        """Rows of queries that share a K/V head."""
        return self.rows * self.groups


@dataclass(frozen=True)
class Tile:
    """One block: `rows` folded rows, `keys` a step, `dim` columns (a power of two, the last ones empty)."""

    rows: int
    keys: int
    dim: int
    num_warps: int
    num_stages: int
    registers: int
    """Of a thread: no more than this, as the compiler says."""

    @property
    def tail_keys(self) -> int:
        """Keys a step over the tail: fewer, for with a mask in hand 64 would take more registers than there are."""
        return min(self.keys, 16 if self.rows * self.dim >= 64 * 128 else 32)

    def shared_bytes(self, itemsize: int, chip: Chip) -> int:
        """Queries, K and V of all stages that wait there, and what is exchanged: no less than the compiler says."""
        step = 2 * self.keys * self.dim
        if chip.by_warpgroup and self.rows >= 64 and itemsize == 2:
            numbers = self.rows * self.dim + self.num_stages * step
        else:  # the stage in hand is in registers
            numbers = self.rows * (self.dim + self.keys) + (self.num_stages - 1) * step
        return numbers * itemsize + 1024

    def blocks_per_processor(self, itemsize: int, chip: Chip) -> int:
        """Two, if there is room for them."""
        by_memory = chip.shared_per_processor // (self.shared_bytes(itemsize, chip) + 1024)  # 1 KB is the system's
        by_registers = 65_536 // (self.registers * self.num_warps * 32)
        return max(1, min(2, by_memory, by_registers))


@dataclass(frozen=True)
class Launch:
    """A tile, and how often: row_blocks * kv_heads * splits of them. It depends on shapes, never on the length.

    The first `tail_splits` splits, of `tail_steps` steps each, look at the mask; the others share the prefix.
    """

    tile: Tile
    row_blocks: int
    tail_splits: int
    tail_steps: int
    prefix_splits: int

    @property
    def splits(self) -> int:
        return self.tail_splits + self.prefix_splits


@cache
def choose(shape: Shape, chip: Chip) -> Launch:
    """The launch for a shape: the splits are those with which a full cache would take the fewest steps in a row."""
    tile = choose_tile(shape.folded, shape.dim, shape.itemsize, chip)
    row_blocks = -(-shape.folded // tile.rows)
    # The length may be in the middle of a step, whose keys go to the tail.
    masked = -(-(shape.tail + tile.keys - 1) // tile.tail_keys)
    tail_steps = max(4, -(-masked // (MAX_SPLITS // 4)))
    tail_splits = -(-masked // tail_steps)
    steps = max(1, shape.capacity // tile.keys)
    together = chip.processors * tile.blocks_per_processor(shape.itemsize, chip)

    def steps_in_a_row(prefix_splits: int) -> int:
        waves = -(-row_blocks * shape.kv_heads * (tail_splits + prefix_splits) // together)
        return waves * (-(-steps // prefix_splits) + OVERHEAD)

    prefix_splits = min(range(1, min(steps, MAX_SPLITS - tail_splits) + 1), key=steps_in_a_row)
    return Launch(tile, row_blocks, tail_splits, tail_steps, prefix_splits)


def choose_tile(folded: int, dim: int, itemsize: int, chip: Chip) -> Tile:
    """The block for `folded` rows."""
    wide = max(16, _power_of_two(dim))
    tile = _exact_tile(folded, wide) if itemsize == 4 else _half_tile(folded, wide)
    shorter = replace(tile, num_stages=2)
    if shorter.blocks_per_processor(itemsize, chip) > tile.blocks_per_processor(itemsize, chip):
        tile = shorter  # a second block hides more than a third stage
    while tile.shared_bytes(itemsize, chip) > chip.shared_per_block and tile.num_stages > 2:
        tile = replace(tile, num_stages=tile.num_stages - 1)
    while tile.shared_bytes(itemsize, chip) > chip.shared_per_block and tile.keys > 16:
        tile = replace(tile, keys=tile.keys // 2)
    return tile


def _half_tile(folded: int, wide: int) -> Tile:
    """For bfloat16 and float16, on tensor cores."""
    rows = min(64, max(16, _power_of_two(folded)))
    if wide <= 128:
        if folded > 256 and _filled(folded, 128) <= SLACK * _filled(folded, 64):
            return Tile(128, 64, wide, num_warps=8, num_stages=3, registers=255)
        return Tile(rows, 64, wide, num_warps=4, num_stages=3, registers=255)
    if rows == 64:
        return Tile(rows, 64, wide, num_warps=8, num_stages=3, registers=255)
    return Tile(rows, 32, wide, num_warps=4, num_stages=3, registers=255)


def _exact_tile(folded: int, wide: int) -> Tile:
    """For float32, whose exact products are made one by one: small blocks, or sums don't fit the registers."""
    rows = 16 if folded <= 16 or wide > 128 else 32
    return Tile(rows, 32 if rows * wide <= 2048 else 16, wide, num_warps=8, num_stages=2, registers=128)


def _power_of_two(number: int) -> int:
    """The smallest that is not less."""
    return 1 << (number - 1).bit_length()


def _filled(number: int, block: int) -> int:
    return -(-number // block) * block
