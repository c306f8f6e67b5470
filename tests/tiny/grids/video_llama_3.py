"""VideoLLaMA 3: patches of images are tokens, those of frames are merged two by two."""

from __future__ import annotations

from transformers import (
    PreTrainedModel,
    ProcessorMixin,
    Qwen2Config,
    VideoLlama3Config,
    VideoLlama3ForConditionalGeneration,
    VideoLlama3ImageProcessor,
    VideoLlama3Processor,
    VideoLlama3VideoProcessor,
)
from transformers.models.video_llama_3.configuration_video_llama_3 import VideoLlama3VisionConfig

from tiny import qwen
from tiny.sizes import Sizes
from tiny.squares import common
from tiny.words import token_id, tokenizer

IMAGE, VIDEO = "<|image_pad|>", "<|video_pad|>"


def processor() -> ProcessorMixin:
    look = {"patch_size": qwen.PATCH, "temporal_patch_size": 1, **common.LOOK}
    most = {"shortest_edge": qwen.PIXELS["shortest_edge"], "longest_edge": 32 * qwen.PIXELS["longest_edge"]}
    return VideoLlama3Processor(
        image_processor=VideoLlama3ImageProcessor(size=qwen.PIXELS, merge_size=1, **look),
        tokenizer=tokenizer(image_token=IMAGE, video_token=VIDEO),
        video_processor=VideoLlama3VideoProcessor(size=most, merge_size=2, **look),
        chat_template=common.chat_template(VIDEO, IMAGE),
    )


def model(sizes: Sizes) -> PreTrainedModel:
    vision = VideoLlama3VisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, patch_size=qwen.PATCH,
        initializer_range=0.4,
    )  # fmt: skip
    config = VideoLlama3Config(
        vision_config=vision,
        text_config=Qwen2Config(**common.text_config(sizes)),
        image_token_id=token_id(IMAGE),
        video_token_id=token_id(VIDEO),
        tie_word_embeddings=sizes.tied,
    )
    return VideoLlama3ForConditionalGeneration(config)
