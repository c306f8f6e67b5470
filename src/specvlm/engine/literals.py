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


def child_flags(parent: bytes, place: int) -> bytes:
    """A branch as flags, one for each node up to its own last one: that of the node at `place`, from its parent's."""
    return parent.ljust(place, b"\0") + b"\1"


@lru_cache(maxsize=1024)
def flags(rows: tuple[bytes, ...]) -> Bool[Tensor, "rows columns"]:
    """One row or more, filled up with False to the length of the last one: a byte of 1 is True, one of 0 is False.

    Cached, since trees look alike on their first levels. Do not write to it.
    """
    columns = len(rows[-1])
    filled = bytearray().join([row.ljust(columns, b"\0") for row in rows])
    return torch.from_numpy(np.frombuffer(filled, np.bool_).reshape(len(rows), columns))
