"""Snapshots: whether weights are still what they were when something was made of them.

An optimizer, a new adapter or a loaded checkpoint leave their marks on a tensor: another object, other memory, another
version. What writes through `.data`, as merging an adapter does, leaves none of these, but other numbers: so some of
each weight's are looked at too. It all takes a millisecond or two for a model, where comparing its weights takes one
that reads them all.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from typing import Any, final

import torch
from torch import Tensor, nn

NUM_SAMPLES = 16
"""Numbers of each weight that are looked at, evenly spread."""

ADAPTER_STATE = ("_active_adapter", "_disable_adapters", "merged_adapters", "scaling")
"""What a layer of the peft library lets its owner change beside weights: which adapters count, and how much."""


@final
class WeightsSnapshot:
    """Some tensors as they are now. It holds on to them: memory that their owner gives up stays until it is dropped."""

    def __init__(self, weights: Iterable[Tensor]) -> None:
        self._weights = list(weights)
        self._plain = [weight for weight in self._weights if _is_plain(weight)]
        self._marks = self._look()
        self._views: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
        for weight in self._plain:
            if weight.numel() and weight.is_contiguous():
                self._views.setdefault((weight.dtype, weight.device), []).append(_some_of(weight.detach()))
        self._samples = self._sample()

    def still_true(self, weights: Iterable[Tensor]) -> bool:
        """Are these the same tensors, in the same order, and as they were?"""
        weights = list(weights)
        return (
            len(weights) == len(self._weights)
            and all(map(operator.is_, weights, self._weights))
            and self._look() == self._marks
            and all(map(torch.equal, self._sample(), self._samples))
        )

    def _look(self) -> list[tuple[int, int]]:
        return [(weight.data_ptr(), version(weight)) for weight in self._plain]

    def _sample(self) -> list[Tensor]:
        return [torch.cat(views) for views in self._views.values()]


@final
class ModelSnapshot:
    """The weights of modules and the state of their adapters, as they are now."""

    def __init__(self, *modules: nn.Module) -> None:
        self._modules = modules
        self._adapters, self._weights = self._look(), WeightsSnapshot(_weights(modules))

    def still_true(self) -> bool:
        """Would the modules still compute what they would have then?"""
        return self._adapters == self._look() and self._weights.still_true(_weights(self._modules))

    def _look(self) -> list[Any]:
        return [
            tuple(str(state[name]) for name in ADAPTER_STATE if name in state)
            for module in self._modules
            for state in map(vars, module.modules())
            if "_active_adapter" in state
        ]


def version(tensor: Tensor) -> int:
    """How often a tensor was written to, as far as torch counts: in inference mode it doesn't."""
    return 0 if tensor.is_inference() else tensor._version


def _weights(modules: Iterable[nn.Module]) -> Iterator[Tensor]:
    """Parameters, and buffers that are saved with them: others are worked out, and may be so again.

    Without those that were offloaded, whose place-holders are new ones after every forward.
    """
    for module in modules:
        for part in module.modules():
            for weight in part._parameters.values():
                if weight is not None and not weight.is_meta:
                    yield weight
            for name, buffer in part._buffers.items():
                if buffer is not None and not buffer.is_meta and name not in part._non_persistent_buffers_set:
                    yield buffer


def _is_plain(weight: Tensor) -> bool:
    """Whether there are numbers in memory; some quantised tensors are only shown as if."""
    return type(weight) in (Tensor, nn.Parameter) and weight.layout is torch.strided


def _some_of(weight: Tensor) -> Tensor:
    """A view of some numbers of a contiguous tensor, each from the middle of an equal stretch."""
    num = min(weight.numel(), NUM_SAMPLES)
    step = weight.numel() // num
    return weight.as_strided((num,), (step,), weight.storage_offset() + step // 2)
