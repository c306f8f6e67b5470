"""Qwen3-VL with experts: two of four for each token."""

from __future__ import annotations

from transformers import PreTrainedModel, ProcessorMixin, Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration
from transformers.models.qwen3_vl_moe.configuration_qwen3_vl_moe import Qwen3VLMoeTextConfig, Qwen3VLMoeVisionConfig

from tiny import qwen, qwen3_vl
from tiny.sizes import Sizes


def processor() -> ProcessorMixin:
    return qwen3_vl.processor()


def model(sizes: Sizes) -> PreTrainedModel:
    text = Qwen3VLMoeTextConfig(
        **qwen3_vl.text_config(sizes),
        moe_intermediate_size=sizes.hidden,
        num_experts=4,
        num_experts_per_tok=2,
        tie_word_embeddings=sizes.tied,
    )
    vision = Qwen3VLMoeVisionConfig(**qwen3_vl.vision_config(sizes))
    config = Qwen3VLMoeConfig(text_config=text, vision_config=vision, **qwen.outer_config(sizes))
    return qwen3_vl.sharpened(Qwen3VLMoeForConditionalGeneration(config))
