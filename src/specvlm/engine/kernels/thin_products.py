"""Products of a matrix with a few rows, on CPUs where torch's own way is slow: what verifying a tree consists of.

`linear(x, weight)` makes oneDNN rearrange the weight for the CPU's instructions, all of it at each call. Asked for
`weight @ x.T` it rearranges `x`, which is a thousand times smaller. What is won depends on the instructions:

- AMX tiles (Intel Sapphire Rapids and later): up to 32 rows matrices are read at nearly the rate of memory, 1.2 to 1.6
  times as fast as by `linear`, and from 2 rows on with the same numbers to the bit; up to 64 rows a little is won.
- AVX-512 BF16 alone (AMD Zen 4 and 5, Intel Cooper Lake): LLaVA-OneVision-7B's layers take 0.7 of the time for 16 rows,
  0.8 for 32; below 9 rows and for narrow matrices there is nothing to win.

docs/log.md has the figures.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache, partial

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear, pad

from specvlm.engine.kernels.lending import LINEAR


@dataclass(frozen=True)
class Kernel:
    """Where `weight @ x.T` is the faster one."""

    rows: range
    """The numbers of rows for which it pays."""
    block: int
    """Rows are filled up to a multiple of this: the width of the kernel."""
    narrow: int
    """Matrices that take fewer numbers than this are left alone: caches hold them, or Python takes longer."""


TILES = Kernel(range(1, 65), block=2, narrow=768)  # a single row would go to a kernel for vectors, as slow as `linear`
VECTORS = Kernel(range(9, 33), block=16, narrow=2048)


@cache
def kernel_here() -> Kernel | None:
    """That of this CPU's instructions."""
    if torch.cpu._is_amx_tile_supported():
        return TILES
    return VECTORS if torch.cpu._is_avx512_bf16_supported() else None


def lacks_tiles() -> bool:
    """Whether this CPU has AVX-512 BF16 but no AMX."""
    return kernel_here() is VECTORS


def thin_products(num_rows: int, dtype: torch.dtype, device: torch.device) -> AbstractContextManager[None]:
    """A block in which this thread's products of `num_rows` rows are made the fast way, if there is one here."""
    kernel = kernel_here()
    if kernel is None or num_rows not in kernel.rows or dtype != torch.bfloat16 or device.type != "cpu":
        return nullcontext()
    return LINEAR.lend(partial(_multiply, kernel))


def _multiply(kernel: Kernel, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if weight.shape[-1] < kernel.narrow:
        return linear(x, weight, bias)
    return thin_linear(x, weight, bias, kernel.block)


def thin_linear(
    x: Float[Tensor, "*batch in"],
    weight: Float[Tensor, "out in"],
    bias: Float[Tensor, " out"] | None = None,
    block: int = 1,
) -> Float[Tensor, "*batch out"]:
    """`torch.nn.functional.linear`, for few rows, filled up to a multiple of `block`."""
    rows = x.reshape(-1, x.shape[-1])
    filled = pad(rows, (0, 0, 0, -len(rows) % block)).T
    # The bias goes into the sums: added to rounded ones it would cost a second rounding.
    product = weight @ filled if bias is None else torch.addmm(bias[:, None], weight, filled)
    return product.T[: len(rows)].reshape(*x.shape[:-1], -1)
