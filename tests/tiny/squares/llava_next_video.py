"""LLaVA-NeXT-Video: 4 video tokens a frame; an image is looked at as a whole, and in tiles."""

from __future__ import annotations

from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaNextImageProcessor,
    LlavaNextVideoConfig,
    LlavaNextVideoForConditionalGeneration,
    LlavaNextVideoProcessor,
    LlavaNextVideoVideoProcessor,
    PreTrainedModel,
    ProcessorMixin,
)

from tiny.sizes import Sizes
from tiny.squares import common
from tiny.words import token_id, tokenizer

PATCH = 4
PINPOINTS = [[16, 32], [32, 16], [32, 32]]


def processor() -> ProcessorMixin:
    look = {"size": {"shortest_edge": common.SIDE}, "crop_size": {"height": common.SIDE, "width": common.SIDE}}
    return LlavaNextVideoProcessor(
        video_processor=LlavaNextVideoVideoProcessor(**look, **common.LOOK),
        image_processor=LlavaNextImageProcessor(**look, **common.LOOK, image_grid_pinpoints=PINPOINTS),
        tokenizer=tokenizer(),
        patch_size=PATCH,
        num_additional_image_tokens=1,
        vision_feature_select_strategy="default",
        chat_template=common.chat_template("<video>", "<image>"),
    )


def model(sizes: Sizes) -> PreTrainedModel:
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, projection_dim=16, num_hidden_layers=3, num_attention_heads=2,
        image_size=common.SIDE, patch_size=PATCH, initializer_range=0.4, initializer_factor=3.0,
    )  # fmt: skip
    config = LlavaNextVideoConfig(
        vision_config=vision,
        text_config=LlamaConfig(**common.text_config(sizes)),
        image_token_index=token_id("<image>"),
        video_token_index=token_id("<video>"),
        image_grid_pinpoints=PINPOINTS,
        tie_word_embeddings=sizes.tied,
    )
    return LlavaNextVideoForConditionalGeneration(config)
