"""SmolVLM2: 4 tokens a square, of which an image may have several, with their rows and columns in words."""

from __future__ import annotations

from transformers import (
    LlamaConfig,
    PreTrainedModel,
    ProcessorMixin,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)
from transformers.models.smolvlm.configuration_smolvlm import SmolVLMVisionConfig

from tiny.sizes import Sizes
from tiny.squares import common
from tiny.words import END, token_id, tokenizer

NAMED = {
    "image_token": "<image>",
    "video_token": "<video>",
    "fake_image_token": "<|vision_start|>",
    "global_image_token": "<|box_start|>",
    "end_of_utterance_token": END,
}


def processor() -> ProcessorMixin:
    size = {"longest_edge": 2 * common.SIDE}
    square = {"longest_edge": common.SIDE}
    return SmolVLMProcessor(
        image_processor=SmolVLMImageProcessor(size=size, max_image_size=square, **common.LOOK),
        tokenizer=tokenizer(**NAMED),
        video_processor=SmolVLMVideoProcessor(
            max_image_size=square, **common.LOOK, video_sampling={"max_frames": 16, "fps": 1, "video_size": size}
        ),
        image_seq_len=4,
        chat_template=common.chat_template("<video>", "<image>"),
    )


def model(sizes: Sizes) -> PreTrainedModel:
    vision = SmolVLMVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=common.SIDE,
        patch_size=4, initializer_range=0.4,
    )  # fmt: skip
    config = SmolVLMConfig(
        vision_config=vision,
        text_config=LlamaConfig(**common.text_config(sizes)),
        image_token_id=token_id("<image>"),
        scale_factor=2,
        tie_word_embeddings=sizes.tied,
    )
    return SmolVLMForConditionalGeneration(config)
