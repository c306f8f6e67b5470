"""What the Qwen-VL families have in common: the chat template, the pixels, and the language model's settings."""

from __future__ import annotations

from typing import Any

from transformers import Qwen2VLImageProcessor, Qwen2VLVideoProcessor, Qwen3VLVideoProcessor

from tiny.sizes import Sizes
from tiny.words import END, PAD, token_id

PATCH = 4
PIXELS = {"shortest_edge": (2 * PATCH) ** 2, "longest_edge": 1024}
"""Of an image, or a frame: from 1 to 16 tokens."""

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nYou are helpful.<|im_end|>\n{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

LOOK: dict[str, Any] = {"patch_size": PATCH, "temporal_patch_size": 2, "merge_size": 2}


def image_processor() -> Qwen2VLImageProcessor:
    return Qwen2VLImageProcessor(size=PIXELS, **LOOK)


def frame_processor() -> Qwen2VLVideoProcessor:
    """Qwen2-VL and Qwen2.5-VL: the size is that of a frame."""
    return Qwen2VLVideoProcessor(size=PIXELS, cap_pixels_per_frame=False, **LOOK)


def film_processor() -> Qwen3VLVideoProcessor:
    """Qwen3-VL: the size is that of the whole video."""
    size = {"shortest_edge": 2 * PIXELS["shortest_edge"], "longest_edge": 32 * PIXELS["longest_edge"]}
    return Qwen3VLVideoProcessor(size=size, cap_pixels_per_frame=False, **LOOK)


def text_config(sizes: Sizes) -> dict[str, Any]:
    return {
        "vocab_size": sizes.vocabulary,
        "hidden_size": sizes.hidden,
        "intermediate_size": 2 * sizes.hidden,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.kv_heads,
        "max_position_embeddings": 4096,
        "initializer_range": sizes.spread,
        "bos_token_id": None,
        "eos_token_id": token_id(END),
        "pad_token_id": token_id(PAD),
    }


def rope(*sections: int, **more: Any) -> dict[str, Any]:
    """Slow enough for none of the three rows to be lost: with the usual base, widths would turn by thousandths."""
    return {"rope_type": "default", "rope_theta": 10.0, "mrope_section": list(sections), **more}


def vision_config() -> dict[str, Any]:
    return {
        "depth": 3,
        "num_heads": 2,
        "in_channels": 3,
        "patch_size": PATCH,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "initializer_range": 0.4,
    }


def outer_config(sizes: Sizes) -> dict[str, Any]:
    return {
        "tie_word_embeddings": sizes.tied,
        "image_token_id": token_id("<|image_pad|>"),
        "video_token_id": token_id("<|video_pad|>"),
        "vision_start_token_id": token_id("<|vision_start|>"),
        "vision_end_token_id": token_id("<|vision_end|>"),
    }
