"""The kernels of tree attention compile, without a GPU, into what a processor of one has room for."""

from __future__ import annotations

import pytest
import torch

from specvlm.engine.kernels import tree_compiled as module
from specvlm.engine.kernels.tree_compiled import TARGETS, compile_attend, compile_merge, every, ours
from specvlm.engine.kernels.tree_launch import H100


def named(each: object) -> str:
    return each if isinstance(each, str) else ""


@pytest.fixture(autouse=True)
def nothing_is_kept(monkeypatch, tmp_path):
    """Compiled kernels are kept in a home otherwise, and found there."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


@pytest.mark.part(2)
@pytest.mark.parametrize("gpu", TARGETS)
@pytest.mark.parametrize(("name", "shape", "dtype"), list(ours()), ids=named)
def test_our_shapes_keep_to_their_registers(gpu, name, shape, dtype):
    launch, used = compile_attend(shape, dtype, gpu)
    assert used.spilled_bytes == 0
    assert used.registers <= launch.tile.registers
    assert used.shared_bytes <= launch.tile.shared_bytes(2, TARGETS[gpu][1])
    assert used.instructions == ("wgmma" if gpu == "H100" and launch.tile.rows >= 64 else "mma")


ALL = [*every(dtypes=[torch.bfloat16, torch.float32], rows=[32]), *every(dtypes=[torch.float16], rows=[4])]


@pytest.mark.part(2)
@pytest.mark.parametrize(("name", "shape", "dtype"), ALL, ids=named)
def test_every_head_size_fits_a_processor_in_every_dtype(name, shape, dtype):
    launch, used = compile_attend(shape, dtype, "H100")
    assert used.spilled_bytes == 0
    assert used.registers <= launch.tile.registers
    assert used.shared_bytes <= launch.tile.shared_bytes(shape.itemsize, H100) <= H100.shared_per_block


@pytest.mark.parametrize("gpu", TARGETS)
def test_the_merge_is_small(gpu):
    _, shape, dtype = next(ours())
    used = compile_merge(shape, dtype, gpu)
    assert (used.spilled_bytes, used.instructions) == (0, "fma")
    assert used.registers <= 128


def test_the_page_says_what_was_compiled(monkeypatch, tmp_path):
    entry = next(ours())
    monkeypatch.setattr(module, "ours", lambda: [entry])
    monkeypatch.setattr(module, "every", list)
    page = tmp_path / "kernels.md"
    page.write_text(f"before {module.BEGIN} old {module.END} after", encoding="utf-8")
    module.put(page, module.table(["H100"]))
    launch, used = compile_attend(entry[1], entry[2], "H100")
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before ")
    assert text.endswith(" after")
    assert "old" not in text
    line = text.splitlines()[-3]
    assert line.startswith("| 7B, 26 rows | bf16 | 64 x 64, 4 warps, 3 stages, wgmma |")
    assert line.endswith(f"{used.registers} | {used.shared_bytes // 1024} KB |")
    assert f"{launch.row_blocks} x 4 x ({launch.tail_splits} + {launch.prefix_splits})" in line
