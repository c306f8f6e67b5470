"""Products with weights that are packed once, on CPUs: what makes a draft forward in bfloat16 half as long.

oneDNN multiplies by a weight that it first rearranges for the CPU's instructions, and `linear` makes it do so at every
call. Rearranged beforehand a weight is read at 1.4 to 2 times the rate, with the same result to the bit. The price is a
second copy in memory, which is little for a draft and too much for a target. docs/log.md has the figures.

Torch has no public name for this. Its private ones may go or change with any release, so they are tried before they are
used; where they don't do what they did, `linear` is left as it is.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from specvlm.engine.host.memory import free_memory
from specvlm.engine.kernels.lending import LINEAR
from specvlm.engine.snapshot import WeightsSnapshot, version

SMALL = 64 << 20
"""Bytes of a model that a CPU's caches hold anyway, and whose Python takes longer than its products."""

SHARE = 0.25
"""Of the memory that is free: more isn't taken for copies."""

TYPICAL_ROWS = 4
"""Rows that the layout is chosen for. It serves others as well."""


@final
class PackedWeights:
    """Rearranged copies of a model's weights.

    A weight that was changed since is left to torch, as far as a look at each product can tell: see `still_true`.
    """

    def __init__(self, weights: Iterable[Tensor], ops: Any = torch.ops.mkldnn) -> None:
        """The weights are [out, in], in bfloat16 on the CPU. `ops` are as `do_pack` wants them."""
        weights = list(weights)
        self._ops = ops
        self._snapshot = WeightsSnapshot(weights)
        self._packed: dict[int, tuple[Tensor, tuple[int, int], Tensor]] = {
            id(weight): (weight, _marks(weight), _rearranged(ops, weight)) for weight in weights
        }

    def products(self) -> AbstractContextManager[None]:
        """A block in which this thread's linear layers use them."""
        return LINEAR.lend(self._multiply)

    def of(self, weight: Any) -> Tensor | None:
        """The copy of a weight, if it is known and unchanged."""
        known = self._packed.get(id(weight))
        return known[2] if known is not None and known[1] == _marks(weight) else None

    def _multiply(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        packed = self.of(weight)
        return linear(x, weight, bias) if packed is None else _product(self._ops, x, packed, bias)

    def still_true(self, *models: nn.Module) -> bool:
        """Are these weights, as they were, still among those of the models' linear layers? Others may be, too."""
        now = _linear_weights(models)
        return self._packed.keys() <= now.keys() and self._snapshot.still_true(now[key] for key in self._packed)


def pack(*models: nn.Module, ops: Any = torch.ops.mkldnn) -> PackedWeights | None:
    """The weights of all linear layers, if that pays here and there is memory for it; else None. `ops` do the work."""
    weights = _linear_weights(models).values()
    fit = all(each.dtype == torch.bfloat16 and each.device.type == "cpu" for each in weights)
    if not (fit and SMALL <= sum(each.nbytes for each in weights) <= SHARE * free_memory() and do_pack(ops)):
        return None
    with torch.no_grad():
        return PackedWeights(weights, ops)


def _linear_weights(models: Iterable[nn.Module]) -> dict[int, Tensor]:
    """By their ids: some are used more than once."""
    layers = [each for model in models for each in model.modules() if type(each) is nn.Linear]
    return {id(each.weight): each.weight for each in layers}


def _marks(weight: Tensor) -> tuple[int, int]:
    """What writing to a weight, or giving it other memory, changes."""
    return version(weight), weight.data_ptr()


@functools.cache
def do_pack(ops: Any) -> bool:
    """Do these operations say what `linear` says? Asked once, with small integers: their products are exact, in
    whatever order a kernel sums them up."""
    weight, inputs = _integers(24, 33, largest=3), [_integers(rows, 33, largest=2) for rows in (1, TYPICAL_ROWS, 9)]
    given = [(x, bias) for x in inputs for bias in (None, _integers(24, largest=3))]
    try:
        if not ops._is_mkldnn_bf16_supported():
            return False
        with torch.no_grad():
            packed = _rearranged(ops, weight)
            return all(_same(_product(ops, x, packed, bias), linear(x, weight, bias)) for x, bias in given)
    except (AttributeError, RuntimeError, TypeError, ValueError):  # gone, or called in another way, or no tensor
        return False


def _integers(*shape: int, largest: int) -> Tensor:
    """From -largest to largest, in bfloat16; no two rows are alike."""
    return (torch.arange(math.prod(shape), device="cpu").view(shape) % (2 * largest + 1) - largest).bfloat16()


def _same(one: Any, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)


def _rearranged(ops: Any, weight: Tensor) -> Tensor:
    return ops._reorder_linear_weight(weight.detach(), TYPICAL_ROWS)


def _product(ops: Any, x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """A bias that skips memory would be read as if it didn't (torch 2.14)."""
    return ops._linear_pointwise(x, packed, None if bias is None else bias.contiguous(), "none", [], "")
