"""Qwen2-VL: every temporal patch is one step of the clock."""

from __future__ import annotations

from transformers import PreTrainedModel, ProcessorMixin, Qwen2VLConfig, Qwen2VLForConditionalGeneration
from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLTextConfig, Qwen2VLVisionConfig
from transformers.models.qwen2_vl.processing_qwen2_vl import Qwen2VLProcessor

from tiny import qwen
from tiny.sizes import Sizes
from tiny.words import tokenizer


def processor() -> ProcessorMixin:
    return Qwen2VLProcessor(
        image_processor=qwen.image_processor(),
        tokenizer=tokenizer(),
        video_processor=qwen.frame_processor(),
        chat_template=qwen.CHAT_TEMPLATE,
    )


def model(sizes: Sizes) -> PreTrainedModel:
    text = Qwen2VLTextConfig(**qwen.text_config(sizes), rope_parameters=qwen.rope(2, 1, 1))
    vision = Qwen2VLVisionConfig(**qwen.vision_config(), embed_dim=16, hidden_size=sizes.hidden, mlp_ratio=2)
    config = Qwen2VLConfig(text_config=text, vision_config=vision, **qwen.outer_config(sizes))
    return Qwen2VLForConditionalGeneration(config)
