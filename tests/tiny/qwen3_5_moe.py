"""Qwen3.5 with experts: two of four for each token, and one for all."""

from __future__ import annotations

from transformers import PreTrainedModel, ProcessorMixin, Qwen3_5MoeConfig, Qwen3_5MoeForConditionalGeneration
from transformers.models.qwen3_5_moe.configuration_qwen3_5_moe import Qwen3_5MoeTextConfig, Qwen3_5MoeVisionConfig

from tiny import qwen, qwen3_5, qwen3_vl
from tiny.sizes import Sizes


def processor() -> ProcessorMixin:
    return qwen3_vl.processor()


def model(sizes: Sizes) -> PreTrainedModel:
    named = {name: value for name, value in qwen3_5.text_config(sizes).items() if name != "intermediate_size"}
    text = Qwen3_5MoeTextConfig(
        **named,
        moe_intermediate_size=sizes.hidden,
        shared_expert_intermediate_size=sizes.hidden,
        num_experts=4,
        num_experts_per_tok=2,
    )
    vision = Qwen3_5MoeVisionConfig(**qwen3_5.vision_config(sizes))
    config = Qwen3_5MoeConfig(text_config=text, vision_config=vision, **qwen.outer_config(sizes))
    return qwen3_5.mindful(Qwen3_5MoeForConditionalGeneration(config))
