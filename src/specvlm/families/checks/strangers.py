"""Whose code is it? What torch, transformers and accelerate put into a model computes what its name and weights say; of
what others put there nothing is known."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from types import FunctionType
from typing import Any

from torch import nn
from torch.nn.modules import module as torch_module

KNOWN = ("torch", "torchvision", "transformers", "accelerate")
QUIET = (
    *KNOWN, "peft", "timm",
    *("awq", "bitsandbytes", "compressed_tensors", "eetq", "gptqmodel", "hqq", "optimum", "torchao"),
)  # fmt: skip
"""Packages whose modules draw nothing from the global dice when they aren't in training."""


def package_of(code: Any) -> str:
    """The package that a class, a function, or an object's class is from."""
    return (getattr(code, "__module__", None) or type(code).__module__).partition(".")[0]


def of_others(hooks: Mapping[int, Any]) -> Iterator[Any]:
    """Those hooks that are of others. transformers hooks layers of its own, to hand out hidden states."""
    return (hook for hook in hooks.values() if package_of(hook) not in KNOWN)


def hooks_on_all() -> Iterator[Any]:
    """Those of others that torch calls around each forward of any module."""
    return chain(of_others(torch_module._global_forward_pre_hooks), of_others(torch_module._global_forward_hooks))


def is_hooked(part: nn.Module) -> bool:
    """Whether others have hooks around its forward."""
    return any(of_others(part._forward_pre_hooks)) or any(of_others(part._forward_hooks))


def is_altered(part: nn.Module) -> bool:
    """Whether others have hooks around its forward, or another forward in its place."""
    return is_hooked(part) or has_others_forward(part)


def moves_alone(part: nn.Module) -> bool:
    """Whether the `forward` that stands on this object is that of its class behind hooks of accelerate's own, which
    move tensors between devices."""
    hook, forward = vars(part).get("_hf_hook"), vars(part).get("_old_forward")
    hooks = getattr(hook, "hooks", (hook,))
    known = all(package_of(type(each)) == "accelerate" for each in hooks)
    return known and getattr(forward, "__func__", None) is type(part).forward


def has_others_forward(part: nn.Module) -> bool:
    """Whether somebody put another `forward` on this object, or on its class."""
    if "forward" in vars(part) and not moves_alone(part):
        return True
    return not is_known_code(type(part).forward)


def may_draw(model: nn.Module) -> bool:
    """Whether a stranger's code runs in a model, of which nobody knows whether it throws dice. Takes a millisecond."""
    if any(hooks_on_all()):
        return True
    kinds: set[type] = set()
    for part in model.modules():
        if is_hooked(part) or ("forward" in vars(part) and not moves_alone(part)):
            return True
        kinds.add(type(part))
    return any(package_of(kind) not in QUIET for kind in kinds)


@lru_cache(maxsize=4096)
def is_known_code(function: Any) -> bool:
    """Whether a function, and each that it says it wraps, was written in a file of theirs: `functools.wraps` gives a
    stranger's function their name."""
    while function is not None:
        if isinstance(function, FunctionType) and not function.__code__.co_filename.startswith(_folders()):
            return False
        function = getattr(function, "__wrapped__", None)
    return True


@lru_cache
def _folders() -> tuple[str, ...]:
    specs = [find_spec(name) for name in KNOWN]
    places = tuple(f"{Path(place)}/" for spec in specs if spec for place in spec.submodule_search_locations or ())
    return (*places, str(contextlib.__file__))
