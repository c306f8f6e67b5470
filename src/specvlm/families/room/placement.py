"""Where a pair goes: a pure function of what the models weigh and what is free, and the refusal of what can't fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import torch

from specvlm.errors import ModelError, brief
from specvlm.families.room.memory import Gpu, Memory
from specvlm.families.room.weighing import Weight, together

Map = str | Mapping[str, Any] | None
"""A `device_map` of transformers."""

CONTEXT = 8192
"""Tokens of a prompt and its answer that room is left for, where nobody says how many there will be."""

WORKING = 3 * 2**29
"""Bytes of a GPU that are left for what forwards compute, captured rounds and the libraries' own needs."""

SLACK = 1.05
"""How much more room several GPUs need together than one, since no layer is cut."""


@final
@dataclass(frozen=True)
class Placement:
    """Where each model is loaded to, and why there. `max_memory` is the target's, where it is spread."""

    target: Map
    draft: Map
    reason: str
    max_memory: Mapping[int, int] | None = None


def place(memory: Memory, target: Weight | None, draft: Weight | None, context: int = CONTEXT) -> Placement:
    """Both on the first GPU that has room for both; else the draft on one and the target over what all have left; else
    on the CPU. A model of which nothing is known is None, as is one that isn't there."""
    models = [model for model in (target, draft) if model is not None]
    need = together(models, context, once=False)
    which = "both models" if len(models) == 2 else "the model"
    if not memory.gpus:
        return Placement(None, None, "the CPU: torch finds no GPU here")
    for gpu in memory.gpus:
        if need + WORKING <= gpu.free:
            here = f"cuda:{gpu.index}"
            takes = f"{which} and {context} tokens take {gib(need)} of {gib(gpu.free)}"
            takes = takes if models else f"what is loaded can't be weighed, and {gib(gpu.free)} are free"
            return Placement(here, here, f"{here} ({gpu.name}): {takes}")
    found = _spread(memory.gpus, target, draft, context)
    if found is not None:
        return found
    most = max(gpu.free for gpu in memory.gpus)
    return Placement(
        "cpu",
        "cpu",
        f"the CPU: {which} and {context} tokens take {gib(need)}, and of {len(memory.gpus)} "
        f"GPU{'s' * (len(memory.gpus) > 1)} none has more than {gib(most)} free, nor have they enough together",
    )


def _spread(gpus: Sequence[Gpu], target: Weight | None, draft: Weight | None, context: int) -> Placement | None:
    """The draft runs most often, and is best off in one piece: on the GPU with most room. The target takes the rest."""
    if len(gpus) < 2 or target is None:
        return None
    left = {gpu.index: gpu.free - WORKING for gpu in gpus}
    where = None
    if draft is not None:
        where = max(left, key=lambda index: left[index])
        left[where] -= draft.with_cache(context)
    left = {index: room for index, room in left.items() if room > 0}
    cache = target.cache(context)
    # Keys, values and states lie beside the layers that they are of: each GPU needs its share of them, too.
    share = target.weights / (target.weights + cache)
    if (where is not None and where not in left) or sum(left.values()) < SLACK * target.with_cache(context):
        return None
    told = f"the target is spread over {len(left)} GPUs by device_map"
    told += f", the draft is on cuda:{where}" if where is not None else ""
    return Placement(
        "auto",
        None if where is None else f"cuda:{where}",
        f"{told}: no single one has room for {gib(together([m for m in (target, draft) if m], context, once=False))}",
        {index: int(room * share) for index, room in left.items()},
    )


def require_room(memory: Memory, models: Sequence[tuple[Weight, Map]], context: int = 0) -> None:
    """Errors: ModelError for models that need more than is free where they go, at the very least, with what would need
    less. Those that are spread over several devices, or lie where memory can't be known, are let pass."""
    devices: dict[torch.device, list[Weight]] = {}
    for model, where in models:
        if (device := single(where)) is not None:
            devices.setdefault(device, []).append(model)
    for device, here in devices.items():
        need, free = together(here, context, once=True), memory.free(device)
        if free is not None and need > free:
            place = "of RAM" if device.type == "cpu" else f"on {device}"
            parts = " and ".join(f"{brief(model.name)} ({told(model)})" for model in here)
            cache = f" with {context} tokens" if context else ""
            raise ModelError(
                f"{parts}{cache} need{'s' * (len(here) == 1)} {gib(need)} of memory at least, and {gib(free)} {place} "
                f"are free: {_advice(memory, here, device, context)}"
            )


def in_memory(model: Weight, where: Map) -> Weight:
    """What must be in memory of a model whose owner wants it there, whatever the time: of weights that are mapped onto
    the CPU nothing."""
    device = single(where)
    is_mapped = model.mapped and device is not None and device.type == "cpu"
    return replace(model, weights=0, tower_weights=0) if is_mapped else model


def single(where: Map) -> torch.device | None:
    """The one device that a `device_map` names; None if it spreads, or isn't about memory."""
    only: Any = where
    if isinstance(where, Mapping):
        only = next(iter(where.values())) if len(where) == 1 else "auto"
    try:
        device = torch.device("cpu" if only is None else only)
    except (RuntimeError, TypeError):  # `auto`, `balanced`, `disk`
        return None
    return torch.device("cuda", device.index or 0) if device.type == "cuda" else device


def told(model: Weight) -> str:
    """A weight as people say it."""
    quantised = ", quantised" if model.quantised else ""
    return f"{gib(model.weights)} in {str(model.dtype).removeprefix('torch.')}{quantised}"


def _advice(memory: Memory, here: Sequence[Weight], device: torch.device, context: int) -> str:
    ways = []
    if any(model.dtype.itemsize > 2 and not model.quantised for model in here):
        ways.append("dtype='bfloat16'")
    if not all(model.quantised for model in here):
        ways.append("quantised weights (target_kwargs={'quantization_config': 'nf4'}, --target-quantization nf4)")
    if device.type == "cuda" and len(memory.gpus) > 1:
        ways.append(f"device_map='auto' over {len(memory.gpus)} GPUs")
    if context:
        ways.append("fewer frames or a shorter answer")
    if device.type == "cpu" and all(model.mapped and model.weights for model in here):
        ways.append("device='cpu' (--device cpu) by name, which reads what doesn't fit from disk, for every token")
    return f"what would help is {', '.join([*ways, 'or smaller models'] if ways else ['smaller models'])}"


def gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
