"""InternVL: 4 tokens a square, of which an image may have several; its text is Qwen3, as in 3.5."""

from __future__ import annotations

from transformers import (
    GotOcr2ImageProcessor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    InternVLVisionConfig,
    PreTrainedModel,
    ProcessorMixin,
    Qwen3Config,
)

from tiny import qwen3_vl
from tiny.sizes import Sizes
from tiny.squares import common
from tiny.words import token_id, tokenizer

IMAGE = "<|image_pad|>"
NAMED = {
    "start_image_token": "<|vision_start|>",
    "end_image_token": "<|vision_end|>",
    "context_image_token": IMAGE,
    "video_token": "<video>",
}


def processor() -> ProcessorMixin:
    look = {"size": {"height": common.SIDE, "width": common.SIDE}, **common.LOOK}
    return InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(**look, min_patches=1, max_patches=3),
        tokenizer=tokenizer(**NAMED),
        video_processor=InternVLVideoProcessor(**look),
        image_seq_length=4,
        chat_template=common.chat_template("<video>\n", f"{IMAGE}\n"),
    )


def model(sizes: Sizes) -> PreTrainedModel:
    vision = InternVLVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=common.SIDE,
        patch_size=4, layer_scale_init_value=1.0, initializer_range=0.4,
    )  # fmt: skip
    text = Qwen3Config(**common.text_config(sizes), head_dim=16)
    config = InternVLConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=token_id(IMAGE),
        image_seq_length=4,
        tie_word_embeddings=sizes.tied,
    )
    return qwen3_vl.sharpened(InternVLForConditionalGeneration(config))
