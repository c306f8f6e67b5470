"""From the name of a family to a model, a processor, a pair."""

from __future__ import annotations

import copy
from types import ModuleType
from typing import Any, Literal

import torch
from transformers import PreTrainedModel, ProcessorMixin

from specvlm.families import Family, family_of
from specvlm.families.releases import is_too_old_for
from specvlm.pipeline import SpecVLM
from tiny import llava_onevision, qwen2_5_vl, qwen2_vl, qwen3_5, qwen3_5_moe, qwen3_vl, qwen3_vl_moe
from tiny.grids import glm4v, glm46v, video_llama_3
from tiny.sizes import Sizes
from tiny.squares import internvl, llava_next_video, perception_lm, smolvlm
from tiny.words import END, PAD, token_id


def possible(builders: dict[str, ModuleType]) -> dict[str, ModuleType]:
    """Those that this release of transformers is new enough for: all, but where `make compat` tries older ones."""
    return {name: builder for name, builder in builders.items() if not is_too_old_for(name)}


BUILDERS: dict[str, ModuleType] = {
    "llava_onevision": llava_onevision,
    "qwen2_vl": qwen2_vl,
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_vl": qwen3_vl,
    "qwen3_vl_moe": qwen3_vl_moe,
}
MORE: dict[str, ModuleType] = possible(
    {
        "llava_next_video": llava_next_video,
        "internvl": internvl,
        "smolvlm": smolvlm,
        "glm4v": glm4v,
        "glm46v": glm46v,
        "video_llama_3": video_llama_3,
        "perception_lm": perception_lm,
    }
)
"""Families of a file each, on the shoulders of those above: `families/more` and `parity/more` look at them."""
RECURRENT: dict[str, ModuleType] = possible({"qwen3_5": qwen3_5, "qwen3_5_moe": qwen3_5_moe})
"""Families some of whose layers fold what they read. Not in BUILDERS: no target of them is its own draft, and no round
of theirs is played on the device; tests of their own ask all else of them."""

QWEN = tuple(name for name in BUILDERS if name.startswith("qwen"))

TOWERS = ("model.visual.", "model.vision_tower.", "model.vision_model.")
"""How the weights of vision towers are called."""


def processor(family: str) -> ProcessorMixin:
    return (BUILDERS | MORE | RECURRENT)[family].processor()


def model(family: str, seed: int = 0, *, dtype: torch.dtype = torch.float32, **sizes: Any) -> PreTrainedModel:
    """Random weights, the same ones in every dtype; `sizes` are those of `Sizes`."""
    torch.manual_seed(seed)
    made = (BUILDERS | MORE | RECURRENT)[family].model(Sizes(**sizes)).to(dtype).eval()
    if family in ("qwen3_vl_moe", "qwen3_5_moe") and dtype == torch.float64:
        made.set_experts_implementation("batched_mm")  # the default one multiplies in no float64
    made.generation_config.eos_token_id = token_id(END)
    made.generation_config.pad_token_id = token_id(PAD)
    return made


def noised(model: PreTrainedModel, scale: float, seed: int = 0, *, same_vision: bool = False) -> PreTrainedModel:
    """A copy whose weights are off by `scale` of their own spread: a draft that is often, not always, right.

    With `same_vision` only the language model is: both vision towers then hold the same weights.
    """
    twin = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in twin.named_parameters():
            noise = torch.randn(weight.shape, generator=generator).to(weight.dtype)
            if not (same_vision and name.startswith(TOWERS)):
                weight += scale * noise * (weight.std() if weight.numel() > 1 else 0)
    return twin


def family(model: PreTrainedModel, name: str = "tiny") -> Family:
    """The Family of a tiny model, with the processor that belongs to it."""
    model_type = model.config.model_type
    return family_of(model_type, name)(model, processor(model_type), name)


def pair(target: PreTrainedModel, draft: PreTrainedModel | Literal["self"] | None) -> SpecVLM:
    made = family(draft, "tiny draft") if isinstance(draft, PreTrainedModel) else draft
    return SpecVLM(family(target, "tiny target"), made)


def llava_model(seed: int = 0, **sizes: Any) -> PreTrainedModel:
    return model("llava_onevision", seed, **sizes)


def llava_processor() -> ProcessorMixin:
    return processor("llava_onevision")
