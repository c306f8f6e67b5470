"""Survey: a target and its draft found, weighed and given a place, before a weight of either is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, final

import torch
from torch import nn
from transformers import ProcessorMixin

from specvlm.errors import OptionError, brief
from specvlm.families.base import Family
from specvlm.families.checkpoints.keywords import Keywords
from specvlm.families.loading import SPREADING, Checkpoint, device_of, family_of_object
from specvlm.families.room.memory import Memory, memory_here
from specvlm.families.room.placement import CONTEXT, Map, Placement, in_memory, place, require_room, single, told
from specvlm.families.room.weighing import Weight, together, weigh

Source = str | Path | nn.Module

Found = Checkpoint | Family
"""A checkpoint is still to be loaded; a model object is there already."""


@final
@dataclass(frozen=True, eq=False)
class Survey:
    """What `load` would do. A weight is None for a model that is there already, or of which none can be told."""

    target: Found
    draft: Found | Literal["self"] | None
    target_weight: Weight | None
    draft_weight: Weight | None
    placement: Placement
    memory: Memory
    is_open: bool
    """Whether it was left to us where the models go."""
    context: int | None = None
    """Tokens of a prompt and its answer for which there must be room; None: as many as there is room for."""

    @property
    def weights(self) -> int | None:
        """Bytes of all that is to be loaded, once both towers are there; None if that can't be told."""
        pairs = ((self.target, self.target_weight), (self.draft, self.draft_weight))
        found = [weight for model, weight in pairs if isinstance(model, Checkpoint)]
        known = [weight for weight in found if weight is not None]
        return together(known, 0, once=False) if len(known) == len(found) else None

    def require_room(self) -> None:
        """Errors: ModelError for models that can't fit where they go, with what would help."""
        models = (
            (self.target, self.target_weight, self.placement.target),
            (self.draft, self.draft_weight, self.placement.draft),
        )
        going = []
        for found, weight, where in models:
            if weight is not None and isinstance(found, Checkpoint):
                going.append((in_memory(weight, where) if found.how.device_map is not None else weight, where))
        require_room(self.memory, going, self.context or 0)

    def load(
        self, processor: ProcessorMixin | None = None, on_model: Callable[[str], None] = lambda line: None
    ) -> tuple[Family, Family | Literal["self"] | None]:
        """Read the weights. `on_model` is told in one line what is loaded next. Errors: ModelError, for what can't fit
        before anything is read."""
        self.require_room()
        target = self._loaded("target", processor, on_model)
        if self.draft is None:
            return target, None
        if isinstance(self.draft, str):
            return target, "self"
        return target, self._loaded("draft", processor, on_model)

    def _loaded(self, role: str, processor: ProcessorMixin | None, on_model: Callable[[str], None]) -> Family:
        found: Found = getattr(self, role)
        if isinstance(found, Family):
            return found
        where: Map = getattr(self.placement, role)
        how = found.how
        if how.device_map is None and where is not None:
            more = dict(how.more)
            if role == "target" and self.placement.max_memory is not None:
                more = {"max_memory": dict(self.placement.max_memory)} | more
            how = replace(how, device_map=where, more=more)
        weight: Weight | None = getattr(self, f"{role}_weight")
        size = "" if weight is None else f", {told(weight)}"
        on_model(f"loading the {role} {brief(found.name)}{size}, onto {_named(how.device_map)}")
        return replace(found, how=how).load(processor)


def survey(
    target: Source,
    draft: Source | None,
    *,
    dtype: str | torch.dtype = "auto",
    device: str = "auto",
    device_map: Map = None,
    attn: str | None = None,
    processor: ProcessorMixin | None = None,
    target_kwargs: Mapping[str, Any] | None = None,
    draft_kwargs: Mapping[str, Any] | None = None,
    context: int | None = None,
    memory: Memory | None = None,
) -> Survey:
    """As `specvlm.load` takes them; `memory` stands in for what is free here.

    Errors: OptionError for keywords that contradict each other, or that nothing takes; ModelError for a checkpoint that
    isn't there or isn't supported.
    """
    where = _given_place(device, device_map)
    shared = {"dtype": dtype, "device_map": where, "attn": attn}
    _require_use("target_kwargs", target_kwargs, target)
    _require_use("draft_kwargs", draft_kwargs, draft)
    if context is not None and context < 1:
        raise OptionError(f"context must be 1 token or more, or None, not {context}")
    guess: Found | Literal["self"] | None = draft if draft is None or draft == "self" else None  # type: ignore[assignment]
    if draft is not None and guess is None:  # before the target takes its time
        guess = _find(draft, "draft_kwargs", draft_kwargs, shared, processor)
    found = _find(target, "target_kwargs", target_kwargs, shared, processor)
    weights = _weight(found), _weight(guess)
    memory = memory_here() if memory is None else memory
    placement, is_open = _placed(found, guess, weights, memory, context)
    return Survey(found, guess, weights[0], weights[1], placement, memory, is_open, context)


def _given_place(device: str, device_map: Map) -> Map:
    """Errors: OptionError for both, or a device that isn't here."""
    if device == "auto":
        return device_map
    if device_map is not None:
        raise OptionError(f"device={device!r} and device_map={brief(repr(device_map))} both say where: give one")
    if device in SPREADING:
        raise OptionError(f"device must be auto, or one such as cuda, cuda:0 or cpu: device_map takes {device!r}")
    device_of(device, "device")
    return device


def _require_use(role: str, given: Mapping[str, Any] | None, source: Source | None) -> None:
    """Errors: OptionError for keywords that nothing is loaded with."""
    if given and (source is None or source == "self" or isinstance(source, nn.Module)):
        name = role.removesuffix("_kwargs")
        what = "is loaded already" if isinstance(source, nn.Module) else "isn't a model of its own"
        raise OptionError(f"{role} have no use: the {name} {what}")


def _find(
    source: Source,
    role: str,
    given: Mapping[str, Any] | None,
    shared: Mapping[str, Any],
    processor: ProcessorMixin | None,
) -> Found:
    if isinstance(source, nn.Module):
        return family_of_object(source, processor)
    return Checkpoint.find(source, Keywords.of(role, given, **shared))


def _weight(found: Found | Literal["self"] | None) -> Weight | None:
    if not isinstance(found, Checkpoint):
        return None
    weight = weigh(found)
    if weight is None:
        found.require_buildable()
    return weight


def _placed(
    target: Found,
    draft: Found | Literal["self"] | None,
    weights: tuple[Weight | None, Weight | None],
    memory: Memory,
    context: int | None,
) -> tuple[Placement, bool]:
    """Where what is still to be loaded goes, and whether that was left to us."""
    given = [each.how.device_map if isinstance(each, Checkpoint) else None for each in (target, draft)]
    is_open = [isinstance(each, Checkpoint) and each.how.device_map is None for each in (target, draft)]
    if not any(is_open):
        return Placement(given[0], given[1], "as it was asked for"), False
    for family in (target, draft):
        if isinstance(family, Family) and len(family.devices) == 1:
            beside = str(family.devices[0])
            where = None if beside == "cpu" and not memory.gpus else beside
            return Placement(where, where, f"{beside}, where the other model is"), True
    for weight, there, free in zip(weights, given, is_open, strict=True):
        if weight is not None and not free:
            memory = memory.less(weight.weights, single(there))
    target_weight, draft_weight = (weight if free else None for weight, free in zip(weights, is_open, strict=True))
    found = place(memory, target_weight, draft_weight, context or CONTEXT)
    return replace(
        found,
        target=found.target if is_open[0] else given[0],
        draft=found.draft if is_open[1] else given[1],
    ), True


def _named(where: Map) -> str:
    device = single(where)
    return "the CPU" if device is not None and device.type == "cpu" else str(device or "several devices")
