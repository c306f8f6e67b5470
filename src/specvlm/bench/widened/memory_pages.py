"""Is the memory of a tensor really there? Linux tells, page by page."""

from __future__ import annotations

import mmap
from pathlib import Path

import torch
from torch import Tensor

EXCLUSIVE_BIT = 56
"""Of an entry in /proc/self/pagemap: the page is mapped here and nowhere else. Bit 63, the sign: it is in memory."""


def own_bytes(tensor: Tensor) -> int:
    """Bytes of a contiguous CPU tensor that lie in pages of this process's own, to a page at either end.

    Memory that was never written doesn't count: it is mapped to nothing or, once somebody read it, to the one page of
    zeros that all processes share. Errors: OSError on a system without /proc/self/pagemap.
    """
    if tensor.numel() == 0:
        return 0
    first = tensor.data_ptr() // mmap.PAGESIZE
    num_pages = (tensor.data_ptr() + tensor.nbytes - 1) // mmap.PAGESIZE - first + 1
    with Path("/proc/self/pagemap").open("rb") as pagemap:
        pagemap.seek(8 * first)
        entries = torch.frombuffer(bytearray(pagemap.read(8 * num_pages)), dtype=torch.int64)
    num_own = int(((entries < 0) & (entries >> EXCLUSIVE_BIT & 1).bool()).sum())
    return min(num_own * mmap.PAGESIZE, tensor.nbytes)
