"""Products with weights that are packed once, on CPUs: what makes a draft forward in bfloat16 half as long.

oneDNN multiplies by a weight that it first rearranges for the CPU's instructions, and `linear` makes it do so at every
call. Rearranged beforehand a weight is read at 1.4 to 2 times the rate, with the same result to the bit. The price is a
second copy in memory, which is little for a draft and too much for a target. docs/log.md has the figures.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

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

    def __init__(self, weights: Iterable[Tensor]) -> None:
        """The weights are [out, in], in bfloat16 on the CPU."""
        weights = list(weights)
        self._snapshot = WeightsSnapshot(weights)
        self._packed: dict[int, tuple[Tensor, tuple[int, int], Tensor]] = {
            id(weight): (weight, _marks(weight), _rearranged(weight)) for weight in weights
        }

    def products(self) -> AbstractContextManager[None]:
        """A block in which this thread's linear layers use them."""

        def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
            packed = self.of(weight)
            if packed is None:
                return linear(x, weight, bias)
            return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")

        return LINEAR.lend(product)

    def of(self, weight: Any) -> Tensor | None:
        """The copy of a weight, if it is known and unchanged."""
        known = self._packed.get(id(weight))
        return known[2] if known is not None and known[1] == _marks(weight) else None

    def still_true(self, *models: nn.Module) -> bool:
        """Are these weights, as they were, still among those of the models' linear layers? Others may be, too."""
        now = _linear_weights(models)
        return self._packed.keys() <= now.keys() and self._snapshot.still_true(now[key] for key in self._packed)


def pack(*models: nn.Module) -> PackedWeights | None:
    """The weights of all linear layers, if that pays here and there is memory for it; else None."""
    weights = _linear_weights(models).values()
    fit = all(each.dtype == torch.bfloat16 and each.device.type == "cpu" for each in weights)
    if not (fit and SMALL <= sum(each.nbytes for each in weights) <= SHARE * free_memory() and _can_pack()):
        return None
    with torch.no_grad():
        return PackedWeights(weights)


def _linear_weights(models: Iterable[nn.Module]) -> dict[int, Tensor]:
    """By their ids: some are used more than once."""
    layers = [each for model in models for each in model.modules() if type(each) is nn.Linear]
    return {id(each.weight): each.weight for each in layers}


def _marks(weight: Tensor) -> tuple[int, int]:
    """What writing to a weight, or giving it other memory, changes."""
    return version(weight), weight.data_ptr()


def free_memory() -> int:
    """Bytes that could be had without swapping; 0 where the system doesn't tell."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(":")
            if name == "MemAvailable":
                return 1024 * int(value.removesuffix("kB"))
    return 0


def _can_pack() -> bool:
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _rearranged(weight: Tensor) -> Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach(), TYPICAL_ROWS)
