"""From a path, a Hub id, `"pocket"` or a model object to a Family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    PROCESSOR_MAPPING,
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    PreTrainedConfig,
    PreTrainedModel,
    ProcessorMixin,
)

from specvlm.errors import ModelError, OptionError, brief
from specvlm.families.adapters import WITHOUT_ADAPTER, base_of_adapter, holds_processor, names_processor
from specvlm.families.base import Family
from specvlm.families.checks.model_objects import refuse_unless_followed, unwrapped
from specvlm.families.checks.weights import wrong_weights
from specvlm.families.llava_onevision import LlavaOnevision
from specvlm.families.qwen.qwen2_5_vl import Qwen2_5VL
from specvlm.families.qwen.qwen2_vl import Qwen2VL
from specvlm.families.qwen.qwen3_vl import Qwen3VL
from specvlm.families.qwen.qwen3_vl_moe import Qwen3VLMoe
from specvlm.families.releases import ADAPTERS_COME_ALONG

FAMILIES: dict[str, type[Family]] = {
    family.model_type: family for family in (LlavaOnevision, Qwen2VL, Qwen2_5VL, Qwen3VL, Qwen3VLMoe)
}

DTYPES = {
    "auto": "auto",
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

SPREADING = ("auto", "balanced", "balanced_low_0", "sequential")
"""Device maps that leave it to accelerate which layer goes where."""


def load_family(
    source: str | Path | nn.Module,
    *,
    dtype: str | torch.dtype = "auto",
    device_map: str | dict | None = None,
    attn: str | None = None,
    processor: ProcessorMixin | None = None,
) -> Family:
    """Load one model of a pair; a model object is taken as it is, adapters and all, if specvlm can follow it. A folder
    with an adapter of peft is its base model with that adapter.

    Errors: ModelError; OptionError for the dtype, or a device that isn't here.
    """
    if isinstance(source, nn.Module):
        model = unwrapped(source, "the model")
        name = name_of(model)
        family = family_of(model.config.model_type, name)
        refuse_unless_followed(model, name)
        if processor is None:
            if not model.name_or_path:
                raise ModelError(
                    "a model object that was not loaded from a checkpoint has no processor: pass processor=..."
                )
            processor = _load_processor(model.name_or_path, model.config)
        return family(model, processor, name)
    if isinstance(dtype, str) and dtype not in DTYPES:
        raise OptionError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}")
    if isinstance(device_map, str):
        device_of(device_map)
    name = str(source)
    family, config, adapted = _kind_of(name)
    how = {
        "dtype": DTYPES[dtype] if isinstance(dtype, str) else dtype,
        "device_map": device_map,
        "attn_implementation": attn,
    }
    if adapted is not None and not (adapted == name and ADAPTERS_COME_ALONG):
        # Beside an adapter's weights transformers tells of no others. Quantised ones can't be looked at without memory.
        shapes = {} if getattr(config, "quantization_config", None) else {"device_map": "meta"}
        _load_model(adapted, **how | shapes, **WITHOUT_ADAPTER)
    model = _load_model(name, **how)
    if processor is None:
        processor = _load_processor(name if adapted is None or holds_processor(name) else adapted, config)
    return family(model, processor, name)


def device_of(device_map: str | None) -> torch.device:
    """Where a model that is loaded with this `device_map` begins. Errors: OptionError for what isn't here."""
    if device_map is None:
        return torch.device("cpu")
    if device_map in SPREADING:
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(device_map)
    except RuntimeError:
        raise OptionError(
            f"device_map must be a device such as cuda or cuda:0, or one of {', '.join(SPREADING)}, not "
            f"{brief(repr(device_map))}"
        ) from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise OptionError(f"device_map={device_map!r}: torch finds {torch.cuda.device_count()} GPUs here")
    return device


def require_supported(source: str | Path | nn.Module) -> None:
    """Errors: ModelError for a checkpoint without a config, or of no supported kind; its weights aren't touched."""
    if not isinstance(source, nn.Module):
        _kind_of(str(source))


def _kind_of(name: str) -> tuple[type[Family], PreTrainedConfig, str | None]:
    """The Family of a checkpoint or an adapter, its config, and which checkpoint an adapter changes (maybe itself)."""
    if not name:
        raise ModelError("a model must be a path, a Hub id, 'pocket' or a model object, not ''")
    adapted = base_of_adapter(name)
    config = _load(AutoConfig, adapted or name)
    return family_of(config.model_type, name), config, adapted


def family_of(model_type: str, name: str) -> type[Family]:
    """The Family of a `model_type`. Errors: ModelError with the list of those that are supported."""
    if model_type not in FAMILIES:
        raise ModelError(
            f"{name} is a {model_type}, which is not supported; supported are {', '.join(sorted(FAMILIES))}"
        )
    return FAMILIES[model_type]


def name_of(model: PreTrainedModel) -> str:
    return model.name_or_path or type(model).__name__


def _load_model(name: str, **kwargs: Any) -> PreTrainedModel:
    """Errors: ModelError, also for weights that are missing, too many, or of another size."""
    # Sizes are complained about below, by name: transformers' own error has none.
    model, info = _load(
        AutoModelForImageTextToText, name, output_loading_info=True, ignore_mismatched_sizes=True, **kwargs
    )
    if (wrong := wrong_weights(info, model)) is not None:
        raise ModelError(f"can't load {brief(name)} as a checkpoint: {wrong}")
    return model


def _load_processor(name: str, config: PreTrainedConfig) -> ProcessorMixin:
    """The processor that a checkpoint names or, where it names none, the one that goes with its kind of model.

    AutoProcessor would find the same one. Found here, it is asked by ourselves to run no code that a checkpoint brings.
    """
    named = names_processor(name) or getattr(config, "processor_class", None) is not None
    by_kind = not named and type(config) in PROCESSOR_MAPPING
    return _load(PROCESSOR_MAPPING[type(config)] if by_kind else AutoProcessor, name)


def _load(loader: Any, name: str, **kwargs: Any) -> Any:
    """Load by name; whatever transformers says is wrong becomes one line. No code that a checkpoint brings is run, and
    nobody is asked whether it should be."""
    given = {key: value for key, value in kwargs.items() if value is not None}
    try:
        return loader.from_pretrained(name, trust_remote_code=False, **given)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        foreign = "trust_remote_code" in str(error)
        reason = "it needs code that it brings along, and specvlm runs none" if foreign else brief(error, 500)
        raise ModelError(f"can't load {brief(name)} as a checkpoint: {reason}") from error
