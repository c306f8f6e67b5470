"""Qwen2.5-VL: a clock in seconds, and a vision tower with windows smaller than a frame, but for one block."""

from __future__ import annotations

from transformers import PreTrainedModel, ProcessorMixin, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLTextConfig, Qwen2_5_VLVisionConfig
from transformers.models.qwen2_5_vl.processing_qwen2_5_vl import Qwen2_5_VLProcessor

from tiny import qwen
from tiny.sizes import Sizes
from tiny.words import tokenizer


def processor() -> ProcessorMixin:
    return Qwen2_5_VLProcessor(
        image_processor=qwen.image_processor(),
        tokenizer=tokenizer(),
        video_processor=qwen.frame_processor(),
        chat_template=qwen.CHAT_TEMPLATE,
    )


def model(sizes: Sizes) -> PreTrainedModel:
    text = Qwen2_5_VLTextConfig(**qwen.text_config(sizes), rope_parameters=qwen.rope(2, 1, 1))
    vision = Qwen2_5_VLVisionConfig(
        **qwen.vision_config(),
        hidden_size=16,
        intermediate_size=32,
        out_hidden_size=sizes.hidden,
        tokens_per_second=2,
        window_size=4 * qwen.PATCH,  # 2 x 2 tokens
        fullatt_block_indexes=[1],
    )
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, **qwen.outer_config(sizes))
    return Qwen2_5_VLForConditionalGeneration(config)
