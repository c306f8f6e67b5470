"""Qwen3.5: two layers that fold what they read, and one that attends; times as text between the frames."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel, ProcessorMixin, Qwen3_5Config, Qwen3_5ForConditionalGeneration
from transformers.models.qwen3_5.configuration_qwen3_5 import Qwen3_5TextConfig, Qwen3_5VisionConfig

from tiny import qwen, qwen3_vl
from tiny.sizes import Sizes

SLOWEST, FASTEST = 0.02, 0.4
"""How quickly heads forget. As transformers draws them, most would know no more than the last token."""


def processor() -> ProcessorMixin:
    return qwen3_vl.processor()


def layer_types(layers: int) -> list[str]:
    """Every third layer attends, the last one among them; there are two layers at least, so that one always folds."""
    count = max(2, layers)
    return ["linear_attention" if (count - 1 - index) % 3 else "full_attention" for index in range(count)]


def text_config(sizes: Sizes) -> dict[str, Any]:
    types = layer_types(sizes.layers)
    return qwen.text_config(sizes) | {
        "num_hidden_layers": len(types),
        "layer_types": types,
        "head_dim": qwen3_vl.HEAD_DIM,
        "rope_parameters": qwen.rope(2, 1, 1, mrope_interleaved=True, partial_rotary_factor=0.5),
        "linear_num_key_heads": sizes.kv_heads,
        "linear_num_value_heads": sizes.heads,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 6,
        "tie_word_embeddings": sizes.tied,
    }


def vision_config(sizes: Sizes) -> dict[str, Any]:
    sized = qwen3_vl.vision_config(sizes)
    return {name: value for name, value in sized.items() if name != "deepstack_visual_indexes"}


def model(sizes: Sizes) -> PreTrainedModel:
    text = Qwen3_5TextConfig(**text_config(sizes))
    vision = Qwen3_5VisionConfig(**vision_config(sizes))
    config = Qwen3_5Config(text_config=text, vision_config=vision, **qwen.outer_config(sizes))
    return mindful(Qwen3_5ForConditionalGeneration(config))


def mindful(model: Any) -> PreTrainedModel:
    """Sharp attention, as in `qwen3_vl` (these norms add one to their weights), and heads that remember."""
    with torch.no_grad():
        for layer in model.model.language_model.layers:
            if hasattr(layer, "self_attn"):
                layer.self_attn.q_norm.weight.fill_(qwen3_vl.QUERY_GAIN - 1)
            else:
                layer.linear_attn.A_log.uniform_(SLOWEST, FASTEST).log_()
    return model
