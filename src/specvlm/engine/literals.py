"""Small tensors of what Python holds, by way of numpy: `torch.tensor` takes three times as long for lists."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor


def longs(numbers: Sequence[int] | Sequence[Sequence[int]]) -> Int[Tensor, "..."]:
    """In int64, of one axis or, for a list of lists, of two."""
    return torch.from_numpy(np.array(numbers, np.int64))


@lru_cache(maxsize=1024)
def flags(rows: tuple[int, ...]) -> Bool[Tensor, "rows columns"]:
    """One row or more of bits, the lowest first: as many columns as the last row has bits.

    Cached, since trees look alike on their first levels. Do not write to it.
    """
    columns = rows[-1].bit_length()
    packed = b"".join(row.to_bytes((columns + 7) // 8, "little") for row in rows)
    bits = np.unpackbits(np.frombuffer(packed, np.uint8).reshape(len(rows), -1), axis=1, bitorder="little")
    return torch.from_numpy(bits[:, :columns].copy().view(np.bool_))
