"""What the families that see squares have in common: their size, and the language model's settings."""

from __future__ import annotations

from typing import Any

from tiny.sizes import Sizes
from tiny.words import END, PAD, token_id

SIDE = 16
LOOK: dict[str, Any] = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}


def chat_template(video: str, image: str) -> str:
    """As in the checkpoints, by what stands there for a video and an image."""
    return (
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
        "{% for part in message['content'] %}"
        f"{{{{ '{video}' if part['type'] == 'video' else '{image}' if part['type'] == 'image' else part['text'] }}}}"
        "{% endfor %}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )


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
