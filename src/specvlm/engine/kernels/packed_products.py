"""Products with weights that are packed once, on CPUs: what makes a draft forward in bfloat16 half as long.

oneDNN multiplies by a weight that it first rearranges for the CPU's instructions, and `linear` makes it do so at every
call. Rearranged beforehand a weight is read at 1.4 to 2 times the rate, with the same result to the bit. The price is a
second copy in memory, which is little for a draft and too much for a large target. In float32 `linear` asks MKL, which
takes up to three times as long for several rows; a single row is left to it. docs/log.md has the figures.
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
"""Bytes of a model in bfloat16 that a CPU's caches hold anyway, and whose Python takes longer than its products."""

LITTLE = 256 << 20
"""Bytes of a target that may be held twice."""

NARROW = 192 << 10
"""Numbers of a weight in float32 that is left alone: oneDNN takes longer to be called than MKL to multiply."""

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
        """The weights are [out, in], in bfloat16 or float32 on the CPU."""
        weights = list(weights)
        self._snapshot = WeightsSnapshot(weights)
        self._packed: dict[int, tuple[Tensor, tuple[int, int], Tensor]] = {
            id(weight): (weight, _marks(weight), _rearranged(weight)) for weight in weights
        }

    def products(self) -> AbstractContextManager[None]:
        """A block in which this thread's linear layers use them."""

        def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
            packed = None if x.dtype == torch.float32 and x.numel() == x.shape[-1] else self.of(weight)
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


def pack(*models: nn.Module, most: int | None = None) -> PackedWeights | None:
    """The weights of all linear layers, if that pays here, there is memory for it, and they are no more than `most`
    bytes; else None."""
    weights = list(_linear_weights(models).values())
    dtypes, size = {each.dtype for each in weights}, sum(each.nbytes for each in weights)
    room = SHARE * free_memory() if most is None else min(most, SHARE * free_memory())
    if not all(each.device.type == "cpu" for each in weights) or size > room or not _can_pack():
        return None
    if dtypes == {torch.float32}:
        weights = [each for each in weights if each.numel() >= NARROW]
    elif dtypes != {torch.bfloat16} or size < SMALL:
        return None
    with torch.no_grad():
        return PackedWeights(weights) if weights else None


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
