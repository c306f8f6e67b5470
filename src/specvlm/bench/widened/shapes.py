"""Shapes of published language models: what they weigh, what a cached token weighs, and which of them make a pair.

A shape is numbers only. `specvlm.bench.widened.widening` makes a model of it that answers. `python -m
specvlm.bench.widened` shows the list (`--pair NAME --check` builds a pair and proves that it costs what the real one
would).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedConfig


@dataclass(frozen=True)
class Shape:
    """A decoder of the Qwen2 kind: grouped heads, biases on q, k and v, gated feed-forward, RMSNorm.

    Only the language model: of a Video-LLM, that is what every emitted token has to read.
    """

    name: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocabulary: int
    tied: bool
    """Whether the output head is the embedding table itself."""

    @classmethod
    def of(cls, name: str, config: PreTrainedConfig) -> Shape:
        """That of the language model that a Video-LLM's config describes."""
        text: Any = config.get_text_config()
        return cls(
            name=name,
            hidden=text.hidden_size,
            layers=text.num_hidden_layers,
            heads=text.num_attention_heads,
            kv_heads=text.num_key_value_heads,
            head_dim=getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads,
            ffn=text.intermediate_size,
            vocabulary=text.vocab_size,
            tied=config.tie_word_embeddings,
        )

    @property
    def parameters_per_layer(self) -> int:
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = self.hidden * (2 * queries + 2 * keys) + queries + 2 * keys
        return attention + 3 * self.hidden * self.ffn + 2 * self.hidden

    @property
    def num_parameters(self) -> int:
        tables = self.vocabulary * self.hidden * (1 if self.tied else 2)
        return tables + self.layers * self.parameters_per_layer + self.hidden

    def weight_bytes(self, dtype: torch.dtype) -> int:
        """Bytes of weights that a forward over one token must read: every layer, the last norm and the output head.

        Of the embedding table it reads one row, which is left out.
        """
        head = self.vocabulary * self.hidden
        return (self.layers * self.parameters_per_layer + self.hidden + head) * dtype.itemsize

    def kv_bytes_per_token(self, dtype: torch.dtype) -> int:
        """Bytes of keys and values that one cached token holds, and that every later forward must read."""
        return 2 * self.layers * self.kv_heads * self.head_dim * dtype.itemsize


# The configs of the published checkpoints. LLaVA-OneVision's tables are those of Qwen2 with two tokens more, padded to
# a multiple of 64: 151,936 + 2 -> 152,000 for 0.5B, and 152,064 + 2 -> 152,128 for 7B and 72B.
SHAPES: dict[str, Shape] = {
    shape.name: shape
    for shape in (
        Shape("llava-onevision-0.5b", 896, 24, 14, 2, 64, 4864, 152_000, tied=True),
        Shape("llava-onevision-7b", 3584, 28, 28, 4, 128, 18_944, 152_128, tied=False),
        Shape("llava-onevision-72b", 8192, 80, 64, 8, 128, 29_568, 152_128, tied=False),
        Shape("qwen2.5-vl-3b", 2048, 36, 16, 2, 128, 11_008, 151_936, tied=True),
        Shape("qwen2.5-vl-7b", 3584, 28, 28, 4, 128, 18_944, 152_064, tied=False),
        Shape("qwen2.5-14b", 5120, 48, 40, 8, 128, 13_824, 152_064, tied=False),
        Shape("qwen2.5-vl-32b", 5120, 64, 40, 8, 128, 27_648, 152_064, tied=False),
        Shape("qwen2.5-vl-72b", 8192, 80, 64, 8, 128, 29_568, 152_064, tied=False),
    )
}


class Pair(NamedTuple):
    """Shapes of a target and its draft, and the family of the pocket pair that can be widened into them."""

    target: Shape
    draft: Shape
    family: str


def _pair(target: str, draft: str, family: str) -> tuple[str, Pair]:
    size = draft.rpartition("-")[2]
    return f"{target}+{size}", Pair(SHAPES[target], SHAPES[draft], family)


PAIRS: dict[str, Pair] = dict(
    [
        _pair("llava-onevision-7b", "llava-onevision-0.5b", "llava_onevision"),
        _pair("qwen2.5-vl-7b", "qwen2.5-vl-3b", "qwen2_5_vl"),
        _pair("qwen2.5-14b", "qwen2.5-vl-3b", "qwen2_5_vl"),
        _pair("qwen2.5-vl-32b", "qwen2.5-vl-3b", "qwen2_5_vl"),
    ]
)
"""Pairs that can be built and measured: the first two in 24 GB of memory, the third in 48, the last in 80. (Of the
third's target there is a language model alone: a size between those of Qwen2.5-VL.)"""

ON_PAPER: dict[str, Pair] = dict(
    [
        _pair("llava-onevision-72b", "llava-onevision-7b", "llava_onevision"),
        _pair("qwen2.5-vl-32b", "qwen2.5-vl-7b", "qwen2_5_vl"),
    ]
)
"""The pairs that SpecVLM (arXiv:2508.16201) reports: for predictions from their bytes, never built."""


def table(shapes: Sequence[Shape], dtype: torch.dtype) -> str:
    """One line a shape: parameters, gigabytes (1e9 bytes) a forward, kilobytes (1e3 bytes) a cached token."""
    lines = [f"{'shape':22} {'parameters':>14} {'weights, GB':>12} {'KV, kB/token':>13}"]
    for shape in shapes:
        weights, kv = shape.weight_bytes(dtype) / 1e9, shape.kv_bytes_per_token(dtype) / 1e3
        lines.append(f"{shape.name:22} {shape.num_parameters:14,} {weights:12.2f} {kv:13.1f}")
    return "\n".join(lines)
