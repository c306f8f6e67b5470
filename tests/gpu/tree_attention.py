"""Tree attention on a GPU, which no test has: `PYTHONPATH=src python tests/gpu/tree_attention.py`.

First its numbers against the reference, then, in a CUDA graph, that it outlives a length, and microseconds a call.
"""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from specvlm.engine.kernels.tree_attention import tree_attention, tree_attention_reference

Given = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, float]

LAYERS, REPEATS = 28, 20


def given(
    heads: int, kv_heads: int, rows: int, dim: int, length: int, tail: int, dtype: torch.dtype, capacity: int
) -> Given:
    query = torch.randn(1, rows, heads, dim, device="cuda", dtype=dtype).transpose(1, 2)
    key, value = (torch.randn(1, kv_heads, capacity, dim, device="cuda", dtype=dtype) for _ in range(2))
    mask = torch.rand(rows, tail, device="cuda") < 0.6
    return query, key, value, torch.tensor([length], device="cuda"), mask, dim**-0.5


def check() -> None:
    """Errors: ValueError for numbers that are off."""
    dtypes, lengths = (torch.bfloat16, torch.float16, torch.float32), (0, 1, 63, 64, 65, 1300, 3999)
    for dtype, dim, rows, length in product(dtypes, (64, 80, 96, 128, 256), (1, 4, 26, 64), lengths):
        case = given(28, 4, rows, dim, length, 33, dtype, 4096)
        off = (tree_attention(*case).double() - tree_attention_reference(*case).double()).abs().max().item()
        bound = (3 if dtype != torch.float32 else 200) * torch.finfo(dtype).eps
        if not off <= bound:
            raise ValueError(f"{dtype}, {dim} a head, {rows} rows, {length} keys: off by {off}")


def microseconds(heads: int, kv_heads: int, rows: int, dim: int, length: int) -> float:
    """Of a call, among those of a model's layers. Errors: ValueError if the graph holds on to a length."""
    case = given(heads, kv_heads, rows, dim, length, max(rows, 32), torch.bfloat16, length + 700)
    tree_attention(*case)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(LAYERS):
            output = tree_attention(*case)
    case[3].fill_(length - 5)
    graph.replay()
    if not torch.allclose(output.float(), tree_attention_reference(*case).float(), atol=0.03):
        raise ValueError("a graph of it doesn't see that the length is another one")
    case[3].fill_(length)
    for _ in range(3):
        graph.replay()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(REPEATS):
        graph.replay()
    end.record()
    torch.cuda.synchronize()
    return 1000 * start.elapsed_time(end) / (REPEATS * LAYERS)


if __name__ == "__main__":
    check()
    print("its numbers are right")
    for shape in (
        (28, 4, 26, 128, 12_500),
        (28, 4, 1, 128, 12_500),
        (28, 4, 64, 128, 3_000),
        (14, 2, 8, 64, 12_500),
        (14, 2, 4, 64, 1_300),
        (16, 2, 26, 128, 12_500),
    ):
        print(f"{shape} (heads, K/V heads, rows, dim, keys): {microseconds(*shape):.1f} us")
