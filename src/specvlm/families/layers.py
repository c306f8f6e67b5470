"""A language model's layers, called one after the other: its own `forward`, less what that does around them.

For a few tokens of text that is renaming keywords, making masks and collecting outputs: Python that takes longer than a
small model's layers take to compute, and that neither a CUDA graph nor a compiler can see through.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from transformers import Cache

from specvlm.families.checks.strangers import is_known_code

WALKED = frozenset(
    (
        "glm4v_text",
        "llama",
        "qwen2",
        "qwen2_vl_text",
        "qwen2_5_vl_text",
        "qwen3",
        "qwen3_vl_text",
        "qwen3_vl_moe_text",
        "qwen3_5_text",
        "qwen3_5_moe_text",
    )
)
"""The `model_type` of text models whose forward over text is rotary angles, layers, norm, and nothing else."""


def can_walk(model: nn.Module) -> bool:
    """Whether `walk` computes what a call of the language model `model` would: it is transformers' own, nobody hooks
    into that call or has put another function in its place, as accelerate does where whole models are moved in."""
    inner: Any = model
    own = type(inner).__module__.partition(".")[0] == "transformers" and "forward" not in vars(inner)
    own = own and is_known_code(type(inner).forward)
    return own and inner.config.model_type in WALKED and not (inner._forward_hooks or inner._forward_pre_hooks)


def walk(
    model: nn.Module, rows: Float[Tensor, "1 new D"], positions: Tensor, cache: Cache, cache_name: str
) -> Float[Tensor, "1 new D"]:
    """The last hidden states of `rows`, which are text at `positions` ([1, new], or [3, 1, new] for M-RoPE).

    `cache` takes their keys and values, under the name that layers have for it. Nothing is masked here.
    """
    inner: Any = model
    hidden = rows
    angles = inner.rotary_emb(hidden, positions)
    named = {"position_embeddings": angles, "attention_mask": None, "position_ids": None, cache_name: cache}
    for layer in inner.layers:
        hidden = layer(hidden, **named)
    return inner.norm(hidden)
