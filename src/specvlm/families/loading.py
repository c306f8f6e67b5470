"""From a path, a Hub id, `"pocket"` or a model object to a Family."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import torch
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
from specvlm.families.base import Family
from specvlm.families.checkpoints.adapters import (
    NOWHERE,
    base_of_adapter,
    holds_processor,
    names_processor,
    without_adapter,
)
from specvlm.families.checkpoints.blaming import (
    blaming,
    config_of,
    require_sound,
    wrong_of_model,
    wrong_of_processor,
)
from specvlm.families.checkpoints.hub import reached
from specvlm.families.checkpoints.keywords import Keywords
from specvlm.families.checkpoints.processing import wrong_field
from specvlm.families.checks.model_objects import refuse_unless_followed, unwrapped
from specvlm.families.checks.weights import wrong_weights
from specvlm.families.grids.glm4v import Glm4v
from specvlm.families.grids.glm46v import Glm46V
from specvlm.families.grids.video_llama_3 import VideoLlama3
from specvlm.families.llava_onevision import LlavaOnevision
from specvlm.families.qwen.qwen2_5_vl import Qwen2_5VL
from specvlm.families.qwen.qwen2_vl import Qwen2VL
from specvlm.families.qwen.qwen3_5 import Qwen3_5
from specvlm.families.qwen.qwen3_5_moe import Qwen3_5Moe
from specvlm.families.qwen.qwen3_vl import Qwen3VL
from specvlm.families.qwen.qwen3_vl_moe import Qwen3VLMoe
from specvlm.families.releases import ADAPTERS_COME_ALONG, refuse_too_old
from specvlm.families.squares.internvl import InternVL
from specvlm.families.squares.llava_next_video import LlavaNextVideo
from specvlm.families.squares.perception_lm import PerceptionLM
from specvlm.families.squares.smolvlm import SmolVLM

FAMILIES: dict[str, type[Family]] = {
    family.model_type: family
    for family in (
        LlavaOnevision,
        Qwen2VL,
        Qwen2_5VL,
        Qwen3VL,
        Qwen3VLMoe,
        Qwen3_5,
        Qwen3_5Moe,
        LlavaNextVideo,
        InternVL,
        SmolVLM,
        Glm4v,
        Glm46V,
        VideoLlama3,
        PerceptionLM,
    )
}

SPREADING = ("auto", "balanced", "balanced_low_0", "sequential")
"""Device maps that leave it to accelerate which layer goes where."""


@final
@dataclass(frozen=True, eq=False)
class Checkpoint:
    """One that was found, of a kind that is supported; none of its weights was read yet."""

    name: str
    family: type[Family]
    config: PreTrainedConfig
    adapted: str | None
    """Which checkpoint an adapter changes (maybe itself); None if there is no adapter."""
    how: Keywords

    @classmethod
    def find(cls, source: str | Path, how: Keywords) -> Checkpoint:
        """Errors: ModelError for one without a config, of no supported kind, or on a Hub that doesn't answer;
        OptionError for keywords that it doesn't know, or a device that isn't here."""
        if isinstance(how.device_map, str):
            device_of(how.device_map)
        name = str(source)
        if not name:
            raise ModelError("a model must be a path, a Hub id, 'pocket' or a model object, not ''")
        how = replace(how, hub=reached(name, how.hub))
        require_sound(name, how.hub)
        adapted = base_of_adapter(name, how.hub)
        if adapted is not None and adapted != name:
            how = replace(how, hub=reached(adapted, how.hub))
            require_sound(adapted, how.hub)
        find = config_of(adapted or name, how.hub)
        config = _load(AutoConfig, adapted or name, find, **how.hub)
        family = family_of(config.model_type, name)
        with blaming(adapted or name, find):
            how = how.settled(config)
            how.dtype_of(config)
        return cls(name, family, config, adapted, how)

    def require_buildable(self) -> None:
        """Errors: ModelError for a config of which no model can be made."""
        name = self.adapted or self.name
        with blaming(name, config_of(name, self.how.hub)):
            _of_shapes(self.config, trusts=self.how.trusts)

    def load(self, processor: ProcessorMixin | None = None) -> Family:
        """Errors: ModelError."""
        hub, weights, adapted = dict(self.how.hub), self.how.of_weights(), self.adapted
        if adapted is None:
            weights |= without_adapter(hub)
        if adapted is not None and not (adapted == self.name and ADAPTERS_COME_ALONG):
            # Beside an adapter's weights transformers tells of no others. Quantised ones can't be looked at without
            # memory.
            quantised = getattr(self.config, "quantization_config", None) or weights.get("quantization_config")
            shapes = {} if quantised else {"device_map": "meta"}
            _load_model(adapted, self.config, **hub | weights | shapes, **without_adapter(hub, **NOWHERE))
        model = _load_model(self.name, self.config, **hub | weights)
        if self.how.trusts:
            refuse_unless_followed(model, self.name, self.family.taken_apart)  # its class may be somebody's own
        if processor is None:
            holder = self.name if adapted is None or holds_processor(self.name, hub) else adapted
            processor = _load_processor(holder, self.config, hub)
        return self.family(model, processor, self.name)


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
        return family_of_object(source, processor)
    how = Keywords.of("target_kwargs", None, dtype=dtype, device_map=device_map, attn=attn)
    return Checkpoint.find(source, how).load(processor)


def family_of_object(source: nn.Module, processor: ProcessorMixin | None = None) -> Family:
    """A model object as it is. Errors: ModelError for one that specvlm can't follow, or without a processor."""
    model = unwrapped(source, "the model")
    name = name_of(model)
    family = family_of(model.config.model_type, name)
    refuse_unless_followed(model, name, family.taken_apart)
    if processor is None:
        if not model.name_or_path:
            raise ModelError(
                "a model object that was not loaded from a checkpoint has no processor: pass processor=..."
            )
        processor = _load_processor(model.name_or_path, model.config, reached(model.name_or_path, {}))
    return family(model, processor, name)


def device_of(device_map: str | None, name: str = "device_map") -> torch.device:
    """Where a model that is loaded with this `device_map` begins; `name` is what errors call it.

    Errors: OptionError for what isn't here.
    """
    if device_map is None:
        return torch.device("cpu")
    if device_map in SPREADING:
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(device_map)
    except RuntimeError:
        raise OptionError(
            f"{name} must be a device such as cuda or cuda:0, or one of {', '.join(SPREADING)}, not "
            f"{brief(repr(device_map))}"
        ) from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise OptionError(f"{name}={device_map!r}: torch finds {torch.cuda.device_count()} GPUs here")
    return device


def family_of(model_type: str, name: str) -> type[Family]:
    """The Family of a `model_type`. Errors: ModelError with the list of those that are supported, or with the release
    of transformers that this one needs."""
    if model_type not in FAMILIES:
        raise ModelError(
            f"{name} is a {model_type}, which is not supported; supported are {', '.join(sorted(FAMILIES))}"
        )
    refuse_too_old(model_type, name)
    return FAMILIES[model_type]


def name_of(model: PreTrainedModel) -> str:
    return model.name_or_path or type(model).__name__


def _load_model(name: str, config: PreTrainedConfig, **kwargs: Any) -> PreTrainedModel:
    """Errors: ModelError, also for weights that are missing, too many, or of another size."""
    # Sizes are complained about below, by name: transformers' own error has none.
    model, info = _load(
        AutoModelForImageTextToText,
        name,
        wrong_of_model(name, kwargs, lambda: _of_shapes(config)),
        output_loading_info=True,
        ignore_mismatched_sizes=True,
        **kwargs,
    )
    if (wrong := wrong_weights(info, model)) is not None:
        raise ModelError(f"can't load {brief(name)} as a checkpoint: {wrong}")
    return model


def _of_shapes(config: PreTrainedConfig, *, trusts: bool = False) -> PreTrainedModel:
    """Without memory for its weights."""
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(copy.deepcopy(config), trust_remote_code=trusts)


def _load_processor(name: str, config: PreTrainedConfig, hub: Mapping[str, Any]) -> ProcessorMixin:
    """The processor that a checkpoint names or, where it names none, the one that goes with its kind of model.

    AutoProcessor would find the same one. Found here, it is asked by ourselves to run no code that a checkpoint brings.
    Errors: ModelError, also for one that can't prepare videos.
    """
    named = names_processor(name, hub) or getattr(config, "processor_class", None) is not None
    by_kind = not named and type(config) in PROCESSOR_MAPPING
    loader, find = PROCESSOR_MAPPING[type(config)] if by_kind else AutoProcessor, wrong_of_processor(name, hub)
    processor = _load(loader, name, find, **hub)
    for part in ("tokenizer", "video_processor"):
        if not hasattr(processor, part):
            kind = type(processor).__name__
            raise ModelError(
                f"can't load {brief(name)} as a checkpoint: {find() or 'its config'} names a {kind} as its processor, "
                f"which has no {part}"
            )
    for part in ("video_processor", "image_processor"):
        if (wrong := wrong_field(getattr(processor, part, None))) is not None:
            raise ModelError(f"can't load {brief(name)} as a checkpoint: {find() or 'its processor'}: {part}.{wrong}")
    return processor


def _load(loader: Any, name: str, find: Callable[[], str | None], **kwargs: Any) -> Any:
    """Load by name; whatever a library says is wrong becomes one line, with the file that `find` finds. No code that a
    checkpoint brings is run unless `trust_remote_code` says so, and nobody is asked whether it should be."""
    given = {"trust_remote_code": False} | {key: value for key, value in kwargs.items() if value is not None}
    with blaming(name, find):
        try:
            return loader.from_pretrained(name, **given)
        except (OSError, ValueError, ImportError) as error:
            if "trust_remote_code" not in str(error):
                raise
            reason = "it needs code that it brings along, and specvlm runs none unless trust_remote_code says so"
            raise ModelError(f"can't load {brief(name)} as a checkpoint: {reason}") from error
