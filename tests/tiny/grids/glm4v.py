"""GLM-4.1V: whole seconds behind each two frames, written out; M-RoPE on whole heads, which are small."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    Glm4vConfig,
    Glm4vForConditionalGeneration,
    Glm4vImageProcessor,
    Glm4vProcessor,
    Glm4vVideoProcessor,
    PreTrainedModel,
    ProcessorMixin,
)
from transformers.models.glm4v.configuration_glm4v import Glm4vTextConfig, Glm4vVisionConfig

from tiny import qwen
from tiny.sizes import Sizes
from tiny.squares import common
from tiny.words import token_id, tokenizer

IMAGE, VIDEO = "<|image_pad|>", "<|video_pad|>"
RENAMED = (
    ("<|vision_start|>", "<|begin_of_video|>"),
    ("<|vision_end|>", "<|end_of_video|>"),
    ("<|box_start|>", "<|begin_of_image|>"),
    ("<|box_end|>", "<|end_of_image|>"),
)


def parts() -> dict[str, Any]:
    """Of the processor, but for what looks at pictures."""
    template = common.chat_template(
        f"<|begin_of_video|>{VIDEO}<|end_of_video|>", f"<|begin_of_image|>{IMAGE}<|end_of_image|>"
    )
    return {
        "tokenizer": tokenizer(RENAMED, image_token=IMAGE, video_token=VIDEO),
        "chat_template": template,
    }


def size(num_frames: int) -> dict[str, int]:
    """The most pixels of so many frames, and the least of two: an image counts as two."""
    return {
        "shortest_edge": 2 * qwen.PIXELS["shortest_edge"],
        "longest_edge": num_frames * qwen.PIXELS["longest_edge"],
    }


def processor() -> ProcessorMixin:
    return Glm4vProcessor(
        image_processor=Glm4vImageProcessor(size=size(2), **qwen.LOOK),
        video_processor=Glm4vVideoProcessor(size=size(32), **qwen.LOOK),
        **parts(),
    )


def configs(sizes: Sizes) -> dict[str, Any]:
    rope = {"rope_type": "default", "rope_theta": 10.0, "mrope_section": [2, 1, 1], "partial_rotary_factor": 1.0}
    vision = {key: value for key, value in qwen.vision_config().items() if key != "num_position_embeddings"}
    return {
        "text_config": Glm4vTextConfig(**common.text_config(sizes), rope_parameters=rope),
        "vision_config": Glm4vVisionConfig(
            **vision, hidden_size=16, image_size=32, intermediate_size=32, out_hidden_size=sizes.hidden
        ),
        "tie_word_embeddings": sizes.tied,
        "image_token_id": token_id(IMAGE),
        "video_token_id": token_id(VIDEO),
        "image_start_token_id": token_id("<|box_start|>"),
        "image_end_token_id": token_id("<|box_end|>"),
        "video_start_token_id": token_id("<|vision_start|>"),
        "video_end_token_id": token_id("<|vision_end|>"),
    }


def model(sizes: Sizes) -> PreTrainedModel:
    return decided(Glm4vForConditionalGeneration(Glm4vConfig(**configs(sizes))))


def decided(model: Any) -> PreTrainedModel:
    """Norms behind each layer leave its logits so flat that what is drawn is hardly ever what is likely."""
    with torch.no_grad():
        model.model.language_model.norm.weight.fill_(2.0)
    return model
