"""Attention of a tree's few rows to a long cache, on CPUs where torch's kernel is slow at it.

torch's kernel takes 32 rows of the query at a time, which in bfloat16 suits AMX tiles. Without them it reaches a
quarter of what the CPU multiplies. Here the products are made whole: the logits in float32, of numbers that are
bfloat16 and so without rounding, then the values by bfloat16 shares, as in torch's kernel. docs/log.md has the figures.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from specvlm.engine.kernels.thin_products import lacks_tiles

ROWS = range(8, 65)
"""The numbers of rows for which it pays, and whose logits take little memory."""


def pays(num_rows: int, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether `thin_attention` is the faster one here."""
    return num_rows in ROWS and dtype == torch.bfloat16 and device.type == "cpu" and lacks_tiles()


def hiding_columns(mask: Bool[Tensor, "rows length"]) -> Bool[Tensor, "rows last"]:
    """The mask's last columns, from the first that is hidden from a row: the tree without what is in front of it."""
    hidden = (~mask).any(0).nonzero()[:1, 0].tolist()
    return mask[:, hidden[0] if hidden else mask.shape[1] :]


def thin_attention(
    query: Float[Tensor, "1 kv_heads folded dim"],
    key: Float[Tensor, "1 kv_heads length dim"],
    value: Float[Tensor, "1 kv_heads length value_dim"],
    attn_mask: Float[Tensor, "1 1 folded last"] | None = None,
    dropout_p: float = 0.0,
    scale: float | None = None,
) -> Float[Tensor, "1 kv_heads folded value_dim"]:
    """As `scaled_dot_product_attention`; but the additive mask is of the last columns, and all see what is before.

    There is no dropout.
    """
    wide = query.float() * (query.shape[-1] ** -0.5 if scale is None else scale)
    logits = wide @ key.float().transpose(-1, -2)
    if attn_mask is not None:
        logits[..., logits.shape[-1] - attn_mask.shape[-1] :] += attn_mask
    # `softmax` and not `exp`, which takes three times as long where its results underflow. Probabilities that were
    # rounded needn't add up to 1: hence the division.
    shares = logits.softmax(-1).to(value.dtype)
    return (shares @ value).div_(shares.sum(-1, keepdim=True, dtype=torch.float32))
