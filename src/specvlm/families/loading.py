"""From a path, a Hub id, `"pocket"` or a model object to a Family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    PreTrainedModel,
    ProcessorMixin,
)

from specvlm.errors import ModelError, OptionError, brief
from specvlm.families.adapters import base_of_adapter, holds_processor
from specvlm.families.base import Family
from specvlm.families.checks.model_objects import refuse_unless_followed, unwrapped
from specvlm.families.llava_onevision import LlavaOnevision
from specvlm.families.qwen2_5_vl import Qwen2_5VL
from specvlm.families.qwen2_vl import Qwen2VL
from specvlm.families.qwen3_vl import Qwen3VL
from specvlm.families.qwen3_vl_moe import Qwen3VLMoe

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

    Errors: ModelError; OptionError for the dtype.
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
            processor = _load(AutoProcessor, model.name_or_path)
        return family(model, processor, name)
    if isinstance(dtype, str) and dtype not in DTYPES:
        raise OptionError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}")
    name = str(source)
    family, base = _kind_of(name)
    model = _load(
        AutoModelForImageTextToText,
        name,
        dtype=DTYPES[dtype] if isinstance(dtype, str) else dtype,
        device_map=device_map,
        attn_implementation=attn,
    )
    if processor is None:
        processor = _load(AutoProcessor, name if base == name or holds_processor(name) else base)
    return family(model, processor, name)


def require_supported(source: str | Path | nn.Module) -> None:
    """Errors: ModelError for a checkpoint without a config, or of no supported kind; its weights aren't touched."""
    if not isinstance(source, nn.Module):
        _kind_of(str(source))


def _kind_of(name: str) -> tuple[type[Family], str]:
    """The Family of a checkpoint or an adapter, and the checkpoint that it is based on: itself, or another."""
    if not name:
        raise ModelError("a model must be a path, a Hub id, 'pocket' or a model object, not ''")
    base = base_of_adapter(name) or name
    return family_of(_load(AutoConfig, base).model_type, name), base


def family_of(model_type: str, name: str) -> type[Family]:
    """The Family of a `model_type`. Errors: ModelError with the list of those that are supported."""
    if model_type not in FAMILIES:
        raise ModelError(
            f"{name} is a {model_type}, which is not supported; supported are {', '.join(sorted(FAMILIES))}"
        )
    return FAMILIES[model_type]


def name_of(model: PreTrainedModel) -> str:
    return model.name_or_path or type(model).__name__


def _load(auto_class: Any, name: str, **kwargs: Any) -> Any:
    """Load by name; whatever transformers says is wrong becomes one line."""
    try:
        return auto_class.from_pretrained(name, **{key: value for key, value in kwargs.items() if value is not None})
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"can't load {brief(name)} as a checkpoint: {brief(error, 500)}") from error
