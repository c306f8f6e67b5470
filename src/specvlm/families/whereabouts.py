"""Where modules compute, and what their weights are: also those that accelerate keeps elsewhere between two calls.

Such weights are on the device "meta" by then, and a hook of their module brings them when it is called.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn


def device_of_work(module: nn.Module) -> torch.device:
    """Where `module` wants what it reads: where its first weight is, or is brought to when it is called."""
    for part in module.modules():
        for weight in part.parameters(recurse=False):
            # A block may be brought as a whole, by a hook that isn't its parts' own.
            hooks = chain(_offloading(part), *map(_offloading, module.modules())) if weight.is_meta else ()
            return next((torch.device(hook.execution_device) for hook in hooks), weight.device)
    return torch.device("cpu")


def is_absent(module: nn.Module) -> bool:
    """Whether there are shapes and no weights, and nobody brings them."""
    return device_of_work(module).type == "meta"


def weight_of(module: nn.Module, name: str) -> Tensor:
    """A weight of the module itself, for whoever reads it without calling the module."""
    weight: Tensor = getattr(module, name)
    kept = (hook.weights_map[name] for hook in _offloading(module) if hook.weights_map and name in hook.weights_map)
    return next(kept, weight) if weight.is_meta else weight


def _offloading(module: nn.Module) -> Iterator[Any]:
    """accelerate's hooks that bring a module's weights when it is called."""
    hook: Any = vars(module).get("_hf_hook")
    for each in getattr(hook, "hooks", (hook,)):
        if getattr(each, "offload", False) and each.execution_device is not None:
            yield each
