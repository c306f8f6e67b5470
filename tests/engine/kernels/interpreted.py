"""The Triton kernels of tree attention, run by Triton's interpreter on a CPU. Prints one line of JSON a case.

It is a script since the interpreter has to be asked for before the kernels are read:

    TRITON_INTERPRET=1 PYTHONPATH=src:tests python -m engine.kernels.interpreted
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import cycle, islice, product
from random import Random

import numpy as np
import torch
from torch import Tensor

DIMS = (64, 80, 96, 128, 256)
GROUPS = (1, 2, 3, 5, 7, 8, 16)
ROWS = (1, 2, 4, 13, 26)
LENGTHS = (0, 1, 15, 16, 17, 31, 32, 63, 64, 65, 130, 257)
TAILS = (1, 4, 26, 70)
DTYPES = ("bfloat16", "float16", "float32")
PROCESSORS = (1, 2, 5, 132)


@dataclass(frozen=True)
class Case:
    dim: int
    groups: int
    rows: int
    length: int
    tail: int
    dtype: str
    kv_heads: int = 2
    room: int = 9
    """Places behind the tail."""
    processors: int = 2
    """Of the chip that the launch is for: how many splits there are."""
    layout: str = "plain"


@dataclass(frozen=True)
class Inputs:
    query: Tensor
    key: Tensor
    value: Tensor
    length: Tensor
    mask: Tensor
    scale: float


def inputs(case: Case) -> Inputs:
    """Numbers whose attention is neither flat nor one-sided. What no row sees is NaN, in the buffers' free rest too."""
    torch.manual_seed(case.length * 1009 + case.rows * 31 + case.tail)
    heads, capacity, dtype = (
        case.kv_heads * case.groups,
        case.length + case.tail + case.room,
        getattr(torch, case.dtype),
    )
    mask = torch.rand(case.rows, case.tail) < 0.6
    query = torch.randn(1, case.rows, heads, case.dim).to(dtype).transpose(1, 2)  # as projections leave it
    key, value = (torch.randn(1, case.kv_heads, capacity, case.dim).to(dtype) for _ in range(2))
    for buffer in (key, value):
        buffer[:, :, case.length + case.tail :] = torch.nan
        buffer[:, :, case.length : case.length + case.tail][:, :, ~mask.any(0)] = torch.nan
    if case.layout == "views":  # places outside heads, a wider buffer, a mask cut out of another
        key = key.transpose(1, 2).contiguous().transpose(1, 2)
        value = torch.cat([value, value], -1)[..., : case.dim]
        mask = torch.cat([mask, ~mask], 1).T.contiguous().T[:, : case.tail]
    elif case.layout == "bytes":
        mask = mask.to(torch.uint8) * 255
    length = torch.tensor([case.length], dtype=torch.int64 if case.rows % 2 else torch.int32)
    return Inputs(query, key, value, length, mask, 1.5 * case.dim**-0.5)


def right(x: Inputs) -> Tensor:
    """In float64, a head and a row at a time, over what it sees."""
    _, heads, rows, dim = x.query.shape
    output = torch.zeros(1, heads, rows, dim, dtype=torch.float64)
    groups, length, capacity = heads // x.key.shape[1], int(x.length), x.key.shape[2]
    for row in range(rows):
        tail = [length + column for column in x.mask[row].nonzero()[:, 0].tolist()]
        places = [*range(min(length, capacity)), *(place for place in tail if place < capacity)]
        for head in range(heads if places else 0):
            keys, values = (each[0, head // groups, places].double() for each in (x.key, x.value))
            output[0, head, row] = (keys @ x.query[0, head, row].double() * x.scale).softmax(0) @ values
    return output


def tolerance(x: Inputs) -> float:
    """A rounding or two of the largest number that goes in."""
    largest = float(x.value.nan_to_num().abs().max())
    return largest * max(torch.finfo(x.query.dtype).eps, 2e-6)


def grid() -> Iterator[Case]:
    """Every head size in every dtype, three times, and of all else as many of each, shuffled."""
    pairs, random = 3 * list(product(DIMS, DTYPES)), Random(0)

    def shuffled(values: tuple[int, ...]) -> list[int]:
        cards = list(islice(cycle(values), len(pairs)))
        random.shuffle(cards)
        return cards

    columns = (shuffled(values) for values in (GROUPS, ROWS, LENGTHS, TAILS, PROCESSORS))
    for (dim, dtype), groups, rows, length, tail, processors in zip(pairs, *columns, strict=True):
        kv_heads = 1 if groups * rows > 30 else 2  # programs are interpreted one by one
        yield Case(dim, groups, rows, length, tail, dtype, kv_heads, processors=processors)


def corners() -> Iterator[Case]:
    yield Case(64, 7, 64, 70, 30, "bfloat16", kv_heads=1)  # blocks of 128 rows, the last of them not full
    yield Case(64, 1, 256, 70, 30, "bfloat16", kv_heads=1)
    yield Case(64, 2, 64, 70, 30, "float32", kv_heads=1)
    for layout in ("views", "bytes"):
        for dim in (64, 80):
            yield Case(dim, 5, 6, 77, 11, "bfloat16", layout=layout)
    yield Case(64, 7, 4, 40, 300, "bfloat16")  # a tail of several splits
    yield Case(64, 7, 4, 700, 5, "bfloat16", kv_heads=1, processors=132)  # as many splits as steps
    yield Case(64, 7, 4, 130, 5, "bfloat16", room=2000, processors=132)  # most of the splits have nothing yet
    yield Case(64, 7, 4, 100, 3, "bfloat16", room=0)
    yield Case(128, 1, 3, 20, 0, "float32")  # no tail
    yield Case(128, 1, 3, 0, 0, "float32")  # nothing at all


def multiply_bfloat16() -> None:
    """Triton 3.8's interpreter holds bfloat16 as integers, and multiplies those."""
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle, tl

    own = InterpreterBuilder.create_dot

    def widened(handle):
        if handle.data.dtype != np.uint16:
            return handle
        return TensorHandle((handle.data.astype(np.uint32) << 16).view(np.float32), tl.float32)

    def create_dot(builder, a, b, *rest):
        return own(builder, widened(a), widened(b), *rest)

    InterpreterBuilder.create_dot = create_dot


def differences() -> Iterator[dict]:
    """Of each case, and of the first as it must not be: a bit of the mask lost, the length one off, a naive merge."""
    from specvlm.engine.kernels.tree_attention_triton import attend_splits, merge_splits, tree_attention_triton
    from specvlm.engine.kernels.tree_launch import H100

    def ours(x: Inputs, processors: int) -> Tensor:
        chip = replace(H100, processors=processors)
        return tree_attention_triton(x.query, x.key, x.value, x.length, x.mask, x.scale, chip)

    for case in [*grid(), *corners()]:
        x = inputs(case)
        output, wanted = ours(x, case.processors), right(x)
        yield {
            "case": asdict(case), "shape": list(output.shape), "dtype": str(output.dtype),
            "difference": float((output.double() - wanted).abs().max()), "tolerance": tolerance(x),
            "blind_rows": int((wanted == 0).all(-1).all(1).sum()),
        }  # fmt: skip

    x = inputs(Case(64, 7, 4, 130, 12, "bfloat16", processors=132))
    wanted = right(x)
    lost = x.mask.clone()
    lost[0, int(lost[0].nonzero()[0])] = False
    wrong = {
        "nothing": ours(x, 132),
        "a bit of the mask": ours(replace(x, mask=lost), 132),
        "a length": ours(replace(x, length=x.length - 1), 132),
    }
    splits = attend_splits(x.query, x.key, x.value, x.length, x.mask, x.scale, H100)
    splits.log_sums.zero_()
    wrong["the weights of the merge"] = merge_splits(splits, x.length, x.query, x.key.shape[2])
    for name, output in wrong.items():
        yield {"lost": name, "difference": float((output.double() - wanted).abs().max()), "tolerance": tolerance(x)}


if __name__ == "__main__":
    multiply_bfloat16()
    for line in differences():
        print(json.dumps(line), flush=True)  # noqa: T201
