"""What the compiler makes of tree attention, found out without a GPU: `python -m specvlm.engine.kernels.tree_compiled`.

Kernels are compiled for a GPU's architecture by the assembler that comes with Triton, and asked what they take of it:
where registers don't suffice they are spilled to memory, and a launch with too much shared memory fails.
The table replaces the one in docs/kernels.md.
"""

from __future__ import annotations

import argparse
import logging
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from specvlm.engine.kernels.tree_attention_triton import attend_constants, merge_constants
from specvlm.engine.kernels.tree_kernels import attend, merge
from specvlm.engine.kernels.tree_launch import A100, H100, Launch, Shape, choose

log = logging.getLogger("specvlm.engine.kernels.tree_compiled")

TARGETS = {"A100": (80, A100), "H100": (90, H100)}
"""GPUs, their compute capability and what a launch depends on."""

TYPES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}
"""As Triton calls them."""

BEGIN, END = "<!-- kernels: made by python -m specvlm.engine.kernels.tree_compiled -->", "<!-- /kernels -->"


@dataclass(frozen=True)
class Compiled:
    """A kernel on a chip. Registers are of a thread, bytes of a block but for those spilled, which are of a thread."""

    registers: int
    spilled_bytes: int
    shared_bytes: int
    instructions: str
    """What multiplies: wgmma, mma, or fma."""


def compile_attend(shape: Shape, dtype: torch.dtype, gpu: str) -> tuple[Launch, Compiled]:
    """`attend` for contiguous buffers of a shape, and the launch that it would have."""
    capability, chip = TARGETS[gpu]
    launch = choose(shape, chip)
    types = dict.fromkeys(("Query", "Key", "Value"), f"*{TYPES[dtype]}")
    types |= {"Length": "*i64", "Mask": "*u8", "Shares": "*fp32", "LogSums": "*fp32", "scale": "fp32"}
    constants = attend_constants(launch, shape.groups, shape.dim)
    # The JIT makes constants of strides that are 1, and notes which are multiples of 16.
    constants |= dict.fromkeys(("query_dim", "key_dim", "value_dim", "mask_column"), 1)
    aligned = {*types, "query_head", "query_row", "key_head", "key_place", "value_head", "value_place"} - {"scale"}
    options = {"num_warps": launch.tile.num_warps, "num_stages": launch.tile.num_stages}
    return launch, _compiled(attend, types, constants, aligned, options, capability)


def compile_merge(shape: Shape, dtype: torch.dtype, gpu: str) -> Compiled:
    """`merge` for a shape."""
    capability, chip = TARGETS[gpu]
    launch = choose(shape, chip)
    types = {"Shares": "*fp32", "LogSums": "*fp32", "Length": "*i64", "Output": f"*{TYPES[dtype]}"}
    constants = merge_constants(launch, shape.groups, shape.dim)
    return _compiled(merge, types, constants, set(types), {"num_warps": 4}, capability)


def _compiled(
    kernel: Any,
    types: dict[str, str],
    constants: dict[str, int],
    aligned: set[str],
    options: dict[str, int],
    capability: int,
) -> Compiled:
    names = kernel.arg_names
    signature = {name: "constexpr" if name in constants else types.get(name, "i32") for name in names}
    source = ASTSource(
        kernel,
        signature,
        {(names.index(name),): constant for name, constant in constants.items()},
        {(names.index(name),): [["tt.divisibility", 16]] for name in aligned},
    )
    binary = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    used = _resources(binary.asm["cubin"])
    ptx = binary.asm["ptx"]
    instructions = next((name for name in ("wgmma", "mma") if f"{name}." in ptx), "fma")
    return Compiled(used["REG"], used["STACK"], binary.metadata.shared, instructions)


def _resources(cubin: bytes) -> dict[str, int]:
    """REG, STACK, SHARED, ...: per kernel, as the tool of the toolkit tells them."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        told = subprocess.run(
            [tool, "--dump-resource-usage", file.name], check=True, capture_output=True, text=True
        ).stdout
    return {name: int(number) for name, number in re.findall(r"\b([A-Z]+):(\d+)", told)}


Entry = tuple[str, Shape, torch.dtype]
"""A name for a shape in a dtype."""


def ours() -> Iterator[Entry]:
    """What models of the sizes that we know verify and draft with."""
    for name, kv_heads, groups, dim, rows in (
        ("7B, 26 rows", 4, 7, 128, 26),
        ("7B, 1 row", 4, 7, 128, 1),
        ("7B, 64 rows", 4, 7, 128, 64),
        ("0.5B, 4 rows", 2, 7, 64, 4),
        ("0.5B, 8 rows", 2, 7, 64, 8),
        ("3B, 26 rows", 2, 8, 128, 26),
    ):
        yield name, Shape(kv_heads, groups, rows, dim, 2, 13_312, 32), torch.bfloat16


def every(dtypes: Iterable[torch.dtype] = tuple(TYPES), rows: Iterable[int] = (4, 32)) -> Iterator[Entry]:
    """Every head size, with four query heads to one of K/V."""
    for dim in (64, 80, 96, 128, 256):
        for dtype in dtypes:
            for count in rows:
                yield f"{dim} wide, {count} rows", Shape(4, 4, count, dim, dtype.itemsize, 13_312, 32), dtype


def table(gpus: Iterable[str]) -> str:
    """A line a shape, four columns a GPU."""
    gpus = list(gpus)
    head = [f"{gpu}: {each}" for gpu in gpus for each in ("a block", "blocks", "registers", "shared")]
    lines = [f"| shape | dtype | {' | '.join(head)} |", "|---|---" + "|---|---:|---:|---:" * len(gpus) + "|"]
    for name, shape, dtype in [*ours(), *every()]:
        cells = [name, TYPES[dtype]]
        for gpu in gpus:
            launch, used = compile_attend(shape, dtype, gpu)
            log.info("%s, %s, %s: %s", gpu, name, dtype, used)
            tile = launch.tile
            cells += [
                f"{tile.rows} x {tile.keys}, {tile.num_warps} warps, {tile.num_stages} stages, {used.instructions}",
                f"{launch.row_blocks} x {shape.kv_heads} x ({launch.tail_splits} + {launch.prefix_splits})",
                f"{used.registers}" + f", {used.spilled_bytes} B spilled" * (used.spilled_bytes > 0),
                f"{used.shared_bytes / 1024:.0f} KB",
            ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def put(page: Path, text: str) -> None:
    """Replace what stands between the two comments of a page."""
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", nargs="+", choices=TARGETS, default=TARGETS)
    parser.add_argument("--page", type=Path, help="put the table into this page, between its comments")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    text = f"Triton {triton.__version__}, a cache of 13,312 places and a tail of 32.\n\n{table(options.gpus)}"
    log.info("\n%s", text)
    if options.page is not None:
        put(options.page, text)


if __name__ == "__main__":
    main()
