"""All that the numbers of a processor or of a vision tower hang on, as far as it can be told: what is kept on disk is
only used again where all of it is the same. Where something can't be told, there is None, and nothing is kept."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from specvlm.engine.snapshot import ModelSnapshot
from specvlm.families.base import Family
from specvlm.families.checks.strangers import KNOWN, is_altered, package_of
from specvlm.prompts.disk import digest

FORMAT = 1
"""To be raised whenever `prepare` or `see` of a family, or what is written, changes."""

PACKAGES = ("av", "numpy", "pillow", "specvlm", "tokenizers", "torch", "torchcodec", "torchvision", "transformers")
"""What decodes, resizes, tokenises and computes."""

_WEIGHTS: WeakKeyDictionary[Family, tuple[ModelSnapshot, str]] = WeakKeyDictionary()
"""Towers whose weights were read, as they were then: that takes a second for each gigabyte or so."""

_TOKENIZERS: WeakKeyDictionary[Family, tuple[int, str]] = WeakKeyDictionary()
"""Tokenizers that were written out, with their sizes then."""


def of_preparing(family: Family) -> dict[str, Any]:
    """What decides how sources become a processor's output, besides them and the options."""
    tokenizer = family.tokenizer
    known = _TOKENIZERS.get(family)
    if known is None or known[0] != len(tokenizer):
        written = hashlib.blake2b(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
        known = _TOKENIZERS[family] = (len(tokenizer), written)
    return {
        "format": FORMAT,
        "versions": _versions(),
        "machine": _machine(),
        "family": type(family).__name__,
        "config": _plain(family.model.config.to_dict()),
        "processor": _plain(family.processor.to_dict()),
        "tokenizer": known[1],
    }


def of_seeing(family: Family) -> dict[str, Any] | None:
    """What decides what a family's tower makes of pixels. None for a tower with adapters, with quantised or offloaded
    weights, on several devices, in training, or with somebody's hooks or code in it."""
    tower = list(family.tower)
    parts = [part for module in tower for part in module.modules()]
    weights = [weight for module in tower for weight in _weights(module)]
    devices = {weight.device for weight in weights}
    if len(devices) != 1 or not all(_is_plain(weight) for weight in weights) or any(map(_is_altered, parts)):
        return None
    known = _WEIGHTS.get(family)
    if known is None or not known[0].still_true():
        known = _WEIGHTS[family] = (ModelSnapshot(*tower), _digest(weights))
    return {
        "format": FORMAT,
        "versions": _versions(),
        "machine": _machine(),
        "family": type(family).__name__,
        "config": _plain(family.model.config.vision_config.to_dict()),
        "attention": str(family.model.config.vision_config._attn_implementation),
        "layers": str(getattr(family.model.config, "vision_feature_layer", None)),
        "selection": str(getattr(family.model.config, "vision_feature_select_strategy", None)),
        "weights": known[1],
        "code": hashlib.blake2b("\n".join(map(_name, parts)).encode()).hexdigest(),
        "device": _device(*devices),
        "arithmetic": _arithmetic(),
    }


def _weights(module: nn.Module) -> Iterator[Tensor]:
    """Parameters and all buffers: also those that are no part of a checkpoint, such as frequencies."""
    yield from module.parameters()
    yield from module.buffers()


def _is_plain(weight: Tensor) -> bool:
    """Whether its bytes are its numbers, and at hand."""
    return type(weight) in (Tensor, nn.Parameter) and weight.layout is torch.strided and not weight.is_meta


def _is_altered(part: nn.Module) -> bool:
    return part.training or is_altered(part) or "_active_adapter" in vars(part) or package_of(type(part)) not in KNOWN


def _name(part: nn.Module) -> str:
    return f"{type(part).__module__}.{type(part).__qualname__} {part.extra_repr()}"


def _digest(weights: Iterable[Tensor]) -> str:
    """Of all of them: each by a thread, for hashing leaves the interpreter free."""
    with ThreadPoolExecutor(max(1, torch.get_num_threads())) as threads:
        each = threads.map(lambda weight: digest(weight.detach().cpu()), weights)
        return hashlib.blake2b("\n".join(each).encode()).hexdigest()


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _machine() -> list[Any]:
    """What decides in which order numbers are added up on a CPU."""
    return [platform.machine(), torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()]


def _device(device: torch.device) -> list[Any]:
    if device.type != "cuda":
        return [device.type]
    found = torch.cuda.get_device_properties(device)
    return [device.type, found.name, torch.version.cuda, torch.backends.cudnn.version()]


def _arithmetic() -> list[Any]:
    """What may be switched between two answers."""
    cuda, cudnn, mkldnn = torch.backends.cuda, torch.backends.cudnn, torch.backends.mkldnn
    precisions = (cuda.matmul, getattr(cudnn, "conv", None), getattr(mkldnn, "matmul", None))
    kinds = [kind for kind in ("cpu", "cuda") if torch.is_autocast_enabled(kind)]
    return [
        [torch.get_float32_matmul_precision(), *(getattr(each, "fp32_precision", None) for each in precisions)],
        [
            str(cuda.matmul.allow_fp16_reduced_precision_reduction),
            str(cuda.matmul.allow_bf16_reduced_precision_reduction),
        ],
        [cudnn.enabled, cudnn.benchmark, cudnn.deterministic, mkldnn.enabled],
        [cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.cudnn_sdp_enabled(), cuda.math_sdp_enabled()],
        torch.are_deterministic_algorithms_enabled(),
        [[kind, str(torch.get_autocast_dtype(kind))] for kind in kinds],
    ]


def _plain(facts: Any) -> Any:
    """Settings as JSON has them."""
    return json.loads(json.dumps(facts, sort_keys=True, default=str))
