"""Random models in the shapes of published Qwen3.5.

There is no embedded pair to be widened into them (docs/models.md says why), so that these say nothing: they only cost
what the published ones cost.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import nn
from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration
from transformers.models.qwen3_5.configuration_qwen3_5 import Qwen3_5TextConfig, Qwen3_5VisionConfig

from specvlm.bench.widened.noise import Noise
from specvlm.families import Family
from specvlm.families.loading import family_of

PERIOD = 4
"""Three layers fold what they read, and the fourth attends."""

SMALL_TOWER: dict[str, Any] = {"depth": 1, "hidden_size": 64, "intermediate_size": 64, "num_heads": 2}
"""No step looks at a video."""


@final
@dataclass(frozen=True)
class RecurrentShape:
    """A language model of Qwen3.5's kind. Its embedding, of which one row is read, lies where its output head does."""

    name: str
    text: dict[str, Any]
    """What is other than transformers' defaults, which are those of Qwen3.5-9B."""
    repeats: bool = False
    """Whether all layers share the weights of the first `PERIOD`. They are read anew for each layer, since no cache
    holds them."""
    drafts: bool = False


QWEN3_5_9B = RecurrentShape("qwen3.5-9b", {}, repeats=True)

# The config of the published checkpoint.
QWEN3_5_08B = RecurrentShape(
    "qwen3.5-0.8b",
    {
        "hidden_size": 1024,
        "intermediate_size": 3584,
        "num_hidden_layers": 24,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "linear_num_value_heads": 16,
    },
    drafts=True,
)

SHAPES = {shape.name: shape for shape in (QWEN3_5_9B, QWEN3_5_08B)}


@torch.no_grad()
def random_family(shape: RecurrentShape, dtype: torch.dtype = torch.bfloat16, seed: int = 0) -> Family:
    """A model of this shape on the CPU, without a processor."""
    text: Any = Qwen3_5TextConfig(**shape.text, tie_word_embeddings=True)
    layers = text.num_hidden_layers
    vision = Qwen3_5VisionConfig(**SMALL_TOWER, out_hidden_size=text.hidden_size)
    config: Any = Qwen3_5Config(text_config=text, vision_config=vision, tie_word_embeddings=True)
    whole_text = config.text_config
    whole_text.num_hidden_layers = PERIOD if shape.repeats else layers
    with torch.device("meta"):
        made: Any = Qwen3_5ForConditionalGeneration._from_config(config, dtype=dtype)
    made.to_empty(device="cpu")
    made.tie_weights()
    noise = Noise(dtype, torch.device("cpu"), seed)
    for weight in made.parameters():
        noise.fill(weight)
    model = made.model.language_model
    model.rotary_emb = type(model.rotary_emb)(model.config)
    for index in range(len(model.layers), layers):
        model.layers.append(_again(model.layers[index - PERIOD], index))
    for each in (whole_text, model.config):
        each.num_hidden_layers = layers
    return family_of(config.model_type, shape.name)(made.eval(), None, shape.name)


def _again(layer: nn.Module, index: int) -> nn.Module:
    """A layer with the same weights, and with a place of its own in a cache."""
    held = {id(tensor): tensor for tensor in (*layer.parameters(), *layer.buffers())}
    twin: Any = copy.deepcopy(layer, held)
    (twin.self_attn if hasattr(twin, "self_attn") else twin.linear_attn).layer_idx = index
    return twin
