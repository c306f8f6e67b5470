"""The engine's DeviceDecoder over a stock Hugging Face language model: text, at places that only the device knows."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import Any, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from specvlm.engine.attention import attention_forward, attention_in_place, folded_mask, lend_attention, sight
from specvlm.engine.caches.indexed_cache import IndexedCache
from specvlm.engine.caches.stacked_cache import Buffers
from specvlm.families.checks.stock_attention import AskedAttention, ForeignRefused
from specvlm.families.decoder import HFDecoder
from specvlm.families.layers import can_walk, walk

EXPERTS_IN_TENSORS = frozenset(("batched_mm", "grouped_mm"))
"""Of transformers' ways to compute a mixture of experts, those that don't ask which of them are wanted."""


@final
class HFDeviceDecoder:
    """Stock layers, one after the other, over caches of fixed capacity. The model is left exactly as it was found."""

    def __init__(self, decoder: HFDecoder) -> None:
        """Errors: ValueError, with the reason, for a model of which only the host can make a step."""
        self.decoder = decoder
        reason = self.why_not(decoder)
        if reason is not None:
            raise ValueError(reason)

    @staticmethod
    def why_not(decoder: HFDecoder) -> str | None:
        """What keeps a model's steps on the host, or None."""
        model = decoder.language_model
        if not can_walk(model):
            return "its language model is called as a whole"
        if getattr(model.config, "per_layer_attributes", None):
            return "its layers differ in size"
        if len({weight.device for weight in model.parameters()}) > 1:
            return "it lies on several devices"
        if any(weight.is_meta for weight in model.parameters()):
            return "not all of its weights are in memory"
        if decoder.folds:
            return "some of its layers fold what they read into a state"
        if decoder.lengthens:
            return "its rotary frequencies hang on the length of a forward"
        experts = getattr(model.config, "_experts_implementation", None)
        if hasattr(model.config, "num_experts") and experts not in EXPERTS_IN_TENSORS:
            return f"which experts its tokens want is asked by the host ({experts})"
        return None

    def buffers(self, num_spare: int) -> Buffers:
        """Where this model's caches come from."""
        config: Any = self.decoder.language_model.config
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        sizes = (config.num_hidden_layers, config.num_key_value_heads, head_dim)
        return Buffers(*sizes, self.decoder.dtype, self.decoder.device, num_spare)

    @torch.no_grad()
    def step_at(
        self,
        tokens: Int[Tensor, " rows"],
        positions: Int[Tensor, " rows"],
        length: Int[Tensor, " 1"],
        tail: Bool[Tensor, "rows tail"],
        cache: IndexedCache,
    ) -> Float[Tensor, "rows vocab"]:
        decoder, config = self.decoder, self.decoder.language_model.config
        if tail.device.type == "cuda":
            attention = partial(attention_in_place, length=length, tail=tail)
        else:  # where torch's own kernel is the faster one
            groups = config.num_attention_heads // config.num_key_value_heads
            attention = partial(
                attention_forward, mask=folded_mask(sight(length, tail, cache.bound), groups, decoder.dtype)
            )
        # What is recorded, to be compiled, makes its products as the compiler likes.
        products = decoder.products(len(tokens)) if type(tokens) is Tensor else nullcontext()
        with products, lend_attention(AskedAttention(decoder.name, attention), ForeignRefused(decoder.name)):
            rows = decoder.embed(tokens)[None]
            hidden = walk(decoder.language_model, rows, decoder.in_rows(positions[None]), cache, decoder.cache_name)
            return decoder.head(hidden)[0]
