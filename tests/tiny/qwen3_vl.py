"""Qwen3-VL: times as text between the frames, and features of two deeper vision layers for the first two layers."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel, ProcessorMixin, Qwen3VLConfig, Qwen3VLForConditionalGeneration
from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLTextConfig, Qwen3VLVisionConfig
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor

from tiny import qwen
from tiny.sizes import Sizes
from tiny.words import tokenizer

HEAD_DIM = 16
"""Twice what hidden size and heads come to, as in the checkpoints."""

QUERY_GAIN = 3.0
"""Queries and keys are normalised, whatever the weights: without this, attention is so flat that answers repeat."""


def processor() -> ProcessorMixin:
    return Qwen3VLProcessor(
        image_processor=qwen.image_processor(),
        tokenizer=tokenizer(),
        video_processor=qwen.film_processor(),
        chat_template=qwen.CHAT_TEMPLATE,
    )


def text_config(sizes: Sizes) -> dict[str, Any]:
    rope = qwen.rope(4, 2, 2, mrope_interleaved=True)
    return qwen.text_config(sizes) | {"head_dim": HEAD_DIM, "rope_parameters": rope}


def vision_config(sizes: Sizes) -> dict[str, Any]:
    return qwen.vision_config() | {
        "hidden_size": 16,
        "intermediate_size": 32,
        "out_hidden_size": sizes.hidden,
        "num_position_embeddings": 36,
        "deepstack_visual_indexes": [0, 1],
    }


def model(sizes: Sizes) -> PreTrainedModel:
    text = Qwen3VLTextConfig(**text_config(sizes))
    vision = Qwen3VLVisionConfig(**vision_config(sizes))
    config = Qwen3VLConfig(text_config=text, vision_config=vision, **qwen.outer_config(sizes))
    return sharpened(Qwen3VLForConditionalGeneration(config))


def sharpened(model: Any) -> PreTrainedModel:
    with torch.no_grad():
        for layer in model.model.language_model.layers:
            layer.self_attn.q_norm.weight.fill_(QUERY_GAIN)
    return model
