"""Products of a big matrix with a few rows, on CPUs where torch's own way is slow: what verifying a tree consists of.

Where a CPU has AVX-512 BF16 but no AMX tiles (AMD Zen 4 and 5, Intel Cooper Lake), `linear(x, weight)` makes oneDNN
rearrange the weight for its instructions, all of it at each call. Asked for `weight @ x.T` it rearranges `x`, which is
a thousand times smaller. On two Zen 4 cores, LLaVA-OneVision-7B's layers take 0.7 of the time for 16 rows, 0.8 for 32;
below 9 rows and for narrow matrices there is nothing to win. docs/log.md has the figures.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear, pad

from specvlm.engine.lending import LINEAR

ROWS = range(9, 33)
"""The numbers of rows for which it pays."""

NARROW = 2048
"""Matrices that take fewer numbers than this are left alone."""

BLOCK = 16
"""Rows are filled up to a multiple of this: the width of the kernel."""


def thin_products(num_rows: int, dtype: torch.dtype, device: torch.device) -> AbstractContextManager[None]:
    """A block in which this thread's products of `num_rows` rows are made the fast way, if there is one here."""
    pays = num_rows in ROWS and dtype == torch.bfloat16 and device.type == "cpu" and lacks_tiles()
    return LINEAR.lend(_product) if pays else nullcontext()


@cache
def lacks_tiles() -> bool:
    """Whether this CPU has AVX-512 BF16 but no AMX."""
    return torch.cpu._is_avx512_bf16_supported() and not torch.cpu._is_amx_tile_supported()


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return (thin_linear if weight.shape[-1] >= NARROW else linear)(x, weight, bias)


def thin_linear(
    x: Float[Tensor, "*batch in"], weight: Float[Tensor, "out in"], bias: Float[Tensor, " out"] | None = None
) -> Float[Tensor, "*batch out"]:
    """`torch.nn.functional.linear`, for few rows."""
    rows = x.reshape(-1, x.shape[-1])
    filled = pad(rows, (0, 0, 0, -len(rows) % BLOCK))
    product = (weight @ filled.T).T[: len(rows)]
    if bias is not None:
        product = product + bias
    return product.reshape(*x.shape[:-1], -1)
