"""Snapshots: whether weights, and what computes with them, are still what they were when something was made of them.

An optimizer, a new adapter or a loaded checkpoint leave their marks on a tensor: another object, other memory, another
version. What writes through `.data`, as merging an adapter does, leaves none of these, but other numbers: so some of
each weight's are looked at too. It all takes a millisecond or two for a model, where comparing its weights takes one
that reads them all. Whoever writes a few numbers of a large weight through `.data` isn't noticed.

Modules are known by what they are, by what hangs on their forward, and by their settings: plain values on them, and in
their configs.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, final

import torch
from torch import Tensor, nn

NUM_SAMPLES = 16
"""Numbers of each weight that are looked at, evenly spread."""

ADAPTER_STATE = ("_active_adapter", "_disable_adapters", "merged_adapters", "scaling")
"""What a layer of the peft library lets its owner change beside weights: which adapters count, and how much."""


PLAIN = frozenset((bool, int, float, str))
"""Settings that can be compared at a glance. A None may be the place for what a forward leaves on a module."""

STRUCTURED = frozenset((list, tuple, dict))
"""And those in configs that have to be written out for it: they may be changed in place."""

NO_SETTINGS = ("training", "max_seq_len_cached")
"""Plain values that say nothing in models that only answer, or that forwards change."""

OWN_PACKAGES = ("torch", "transformers")
"""Whose hooks are hung up when they are first needed, to hand out what passes by."""


@final
class WeightsSnapshot:
    """Some tensors as they are now. It holds on to them: memory that their owner gives up stays until it is dropped."""

    def __init__(self, weights: Iterable[Tensor]) -> None:
        self._weights = list(weights)
        self._plain = [weight for weight in self._weights if _is_plain(weight)]
        self._others = [weight for weight in self._weights if not _is_plain(weight)]
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
        plain = [weight.data_ptr() for weight in self._plain]
        return list(zip(plain, map(version, self._plain), strict=True)) + [(0, version(w)) for w in self._others]

    def _sample(self) -> list[Tensor]:
        return [torch.cat(views) for views in self._views.values()]


@final
class ModelSnapshot:
    """Modules with all that are in them, their weights, and the state of their adapters, as they are now."""

    def __init__(self, *modules: nn.Module) -> None:
        self._modules = modules
        self._code, self._weights = self._look(), WeightsSnapshot(_weights(modules))

    def still_true(self) -> bool:
        """Would the modules still compute what they would have then?"""
        return self._code == self._look() and self._weights.still_true(_weights(self._modules))

    def _look(self) -> list[Any]:
        parts = [part for module in self._modules for part in module.modules()]
        configs = {id(config): config for part in parts if (config := vars(part).get("config")) is not None}
        return [_facts(part) for part in parts] + [_written(vars(config)) for config in configs.values()]


def version(tensor: Tensor) -> int:
    """How often a tensor was written to, as far as torch counts: in inference mode it doesn't."""
    return 0 if tensor.is_inference() else tensor._version


def _facts(part: nn.Module) -> tuple[Any, ...]:
    """What a module is, beside its weights. It is held by itself: a new one might get the old one's address."""
    state = vars(part)
    plain = [value for name, value in state.items() if type(value) in PLAIN and _is_setting(name)]
    adapters = [str(state[name]) for name in ADAPTER_STATE if name in state] if "_active_adapter" in state else None
    hooks = [hook for each in (part._forward_pre_hooks, part._forward_hooks) for hook in _of_others(each)]
    return part, state.get("forward"), hooks, plain, adapters


def _is_setting(name: str) -> bool:
    """What libraries note for themselves has names that begin with a line."""
    return name[0] != "_" and name not in NO_SETTINGS


def _of_others(hooks: Mapping[int, Any]) -> Iterator[int]:
    """The numbers of hooks that their owners hung up: torch counts them, and gives none twice."""
    for number, hook in hooks.items():
        if (getattr(hook, "__module__", None) or "").partition(".")[0] not in OWN_PACKAGES:
            yield number


def _written(config: dict[str, Any]) -> dict[str, Any]:
    """The settings of a config, without those of configs in it."""
    settings = {name: value for name, value in config.items() if type(value) in PLAIN}
    return settings | {name: repr(value) for name, value in config.items() if type(value) in STRUCTURED}


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
