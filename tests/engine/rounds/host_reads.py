"""Finds out who makes the host wait for what the device computes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ASKS = frozenset(
    f"aten::{name}"
    for name in (
        "_local_scalar_dense", "item", "is_nonzero", "nonzero", "nonzero_numpy", "argwhere", "equal", "allclose",
        "masked_select", "_unique2", "unique_dim", "unique_consecutive", "multinomial", "bincount",
    )
)  # fmt: skip
"""Operations that can't return before they have looked at numbers, or whose result measures what numbers say."""


class HostReadError(AssertionError):
    """Somebody asked."""


class NoHostReads(TorchDispatchMode):
    """A block in which it is an error to ask for a tensor's numbers, or to carry a tensor to another device.

    On a CPU `tolist()` and `numpy()` go by no operation, and aren't seen; tensors that are fakes have no numbers.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name
        indices = args[1] if name.startswith("aten::index") and isinstance(args[1], (tuple, list)) else ()
        by_mask = any(isinstance(each, Tensor) and each.dtype in (torch.bool, torch.uint8) for each in indices)
        repeats = func is torch.ops.aten.repeat_interleave.Tensor and kwargs.get("output_size") is None
        if name in ASKS or by_mask or repeats:
            raise HostReadError(f"{func} asks for numbers")
        result = func(*args, **kwargs)
        devices = {each.device for each in tree_leaves((args, kwargs, result)) if isinstance(each, Tensor)}
        if name in ("aten::_to_copy", "aten::copy_", "aten::_copy_from") and len(devices) > 1:
            raise HostReadError(f"{func} carries a tensor from one device to another")
        return result
