"""The engine's Decoder over a stock Hugging Face language model."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import chain
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import Cache, DynamicCache, PreTrainedModel

from specvlm.engine.attention import (
    Folding,
    ScoreRecorder,
    Seen,
    attention_forward,
    causal_mask,
    lend_attention,
    seen_by_each,
    without_cudnn,
)
from specvlm.engine.caches.kv_cache import KVCache, TreeCache, refuse_unless_taken_back
from specvlm.engine.caches.recurrent_cache import RECURRENT, PassedByError, RecurrentCache
from specvlm.engine.decoder import Embeds
from specvlm.engine.kernels.packed_products import PackedWeights, pack
from specvlm.engine.kernels.thin_attention import hiding_columns, thin_attention
from specvlm.engine.kernels.thin_attention import pays as thin_attention_pays
from specvlm.engine.kernels.thin_products import thin_products
from specvlm.errors import LengthWarning, ModelError
from specvlm.families.checks.frequencies import positions_of, reach_of
from specvlm.families.checks.layer_types import layer_types_of, names_types, refuse_looking_ahead, window_of
from specvlm.families.checks.stock_attention import AskedAttention, ForeignRefused, refuse_foreign
from specvlm.families.layers import can_walk, walk
from specvlm.families.recurrent.delta_net import DeltaNet
from specvlm.families.releases import cache_name
from specvlm.families.whereabouts import device_of_work, is_absent


class HFDecoder:
    """A causal language model and its output head; with `device_map` their layers may be on several devices.

    Calls the model with embeddings, explicit positions, a TreeCache and a ready-made mask, so that transformers neither
    builds a mask nor guesses positions. The model is left exactly as it was found.
    """

    def __init__(
        self,
        whole: PreTrainedModel,
        name: str,
        *,
        position_rows: int = 1,
        mask_by_layer_type: bool = True,
        text_part: str = "language_model",
    ) -> None:
        """`whole` is the model with its head; its parts are looked up whenever they are used, for their owner may put
        others there. `position_rows`: 3 for M-RoPE. `mask_by_layer_type`: whether the model takes a dict of masks, one
        for each kind of layer; others take a mask of four axes. Given either, transformers makes none of its own, which
        nobody would read. `text_part`: what the model calls its language model.
        """
        self._whole: Any = whole
        self._text_part, self._mask_by_layer_type = text_part, mask_by_layer_type
        self.name, self._position_rows = name, position_rows
        self._may_warn = True
        self._packed: PackedWeights | None = None
        self._learn()

    def _learn(self) -> None:
        """What the language model that is there says of itself."""
        config = self.language_model.config
        refuse_looking_ahead(config, self.name)
        try:
            self.cache_name = cache_name(self.language_model.forward)
        except TypeError as error:
            raise ModelError(f"{self.name} keeps what it has read in a way of its own: {error}") from None
        self._layer_types = layer_types_of(config)
        by_type = self._mask_by_layer_type and names_types(config)
        self._no_mask = dict.fromkeys(self._layer_types) if by_type else torch.empty(1, 1, 0, 0)
        self._delta_net = DeltaNet.of(self.language_model) if RECURRENT in self._layer_types else None
        self._reach = reach_of(self.language_model)
        self._learnt_of = self.language_model

    @property
    def language_model(self) -> PreTrainedModel:
        return getattr(self._whole.model, self._text_part)

    @property
    def head(self) -> nn.Module:
        return self._whole.lm_head

    @property
    def parts(self) -> Iterator[nn.Module]:
        """All modules that a step runs through."""
        return chain(self.language_model.modules(), self.head.modules())

    @property
    def folds(self) -> bool:
        """Whether layers fold what they read into a state, out of which nothing can be taken."""
        return self._delta_net is not None

    def stock_cache(self) -> Cache:
        """A cache of transformers' own, empty, as stock `generate` makes one."""
        return DynamicCache(config=self.language_model.config) if self.folds else DynamicCache()

    @property
    def lengthens(self) -> bool:
        """Whether a forward's length plays a part in its rotary frequencies."""
        return self._reach is not None

    @property
    def _embedding(self) -> Any:
        """An `nn.Embedding`, or what peft put in its place."""
        return self.language_model.get_input_embeddings()

    @property
    def vocab_size(self) -> int:
        return self.language_model.config.vocab_size

    def pack(self) -> None:
        """Make steps faster at the price of a second copy of the weights, where that pays and there is memory."""
        if self._packed is None:
            self._packed = pack(self.language_model, self.head)

    @property
    def packed(self) -> bool:
        """Whether there is such a copy."""
        return self._packed is not None

    @property
    def device(self) -> torch.device:
        """Where embeddings and positions go in."""
        return device_of_work(self._embedding)

    @property
    def dtype(self) -> torch.dtype:
        return self._embedding.weight.dtype

    @property
    def embedding_is_meta(self) -> bool:
        """Whether there are shapes and no weights."""
        return is_absent(self._embedding)

    @property
    def _like(self) -> Tensor:
        """A tensor as embeddings are, on the device where they and positions go in."""
        weight = self._embedding.weight
        return torch.empty(0, dtype=weight.dtype, device=self.device) if weight.is_meta else weight

    @torch.no_grad()
    def embed(self, tokens: Int[Tensor, " n"]) -> Float[Tensor, "n D"]:
        """Token embeddings. An id that the table doesn't have (it came from a bigger partner) reads the last row."""
        return _rows_of(self._embedding, tokens)

    def new_cache(self, capacity: int, longest: int | None = None) -> TreeCache:
        """What an answer begins with. Errors: ModelError for layers that can't be rolled back, or a sliding window that
        is too short."""
        if self._learnt_of is not self.language_model:
            self._learn()
        try:
            window = window_of(self.language_model.config)
            replayed = () if self._delta_net is None else (RECURRENT,)
            refuse_unless_taken_back(self._layer_types, window, self.name, longest or capacity, replayed)
        except ValueError as error:
            raise ModelError(str(error)) from None
        if self._delta_net is not None:
            return RecurrentCache(self._layer_types, capacity)
        return TreeCache(len(self._layer_types), capacity)

    def refuse_foreign_attention(self) -> None:
        """Errors: ModelError if the language model asks for an attention by now that isn't transformers' own."""
        refuse_foreign(self.name, getattr(self.language_model.config, "_attn_implementation", None))

    def refuse_beyond(self, needed: int) -> None:
        """Errors: ModelError if forwards over `needed` positions have other rotary frequencies than shorter ones."""
        if self._reach is not None and needed > self._reach.positions:
            raise ModelError(
                f"{self.name} has {self._reach.kind} rotary frequencies, which change beyond {self._reach.positions} "
                f"positions, and this answer may need {needed}: give fewer frames or a smaller max_new_tokens"
            )

    def warn_beyond(self, needed: int) -> None:
        """Say once that a prompt over `needed` positions is longer than what the model was made for (`LengthWarning`).
        Stock `generate` goes on, and so does specvlm."""
        limit = positions_of(self.language_model.config)
        if self._may_warn and limit is not None and needed > limit:
            self._may_warn = False
            warnings.warn(
                f"the prompt takes {needed} positions, and {self.name} was made for {limit}: it may answer poorly; "
                "give fewer frames or smaller ones",
                LengthWarning,
                stacklevel=2,
            )

    @torch.no_grad()
    def prefill(
        self,
        embeds: Embeds,
        positions: Int[Tensor, "R new"],
        cache: KVCache,
        recorder: ScoreRecorder | None = None,
    ) -> Float[Tensor, " vocab"]:
        if self._packed is not None and not self._packed.still_true(self.language_model, self.head):
            self._packed = pack(self.language_model, self.head)
        like = self._like
        with thin_products(len(embeds), like.dtype, like.device):  # behind a video that is known there are few rows
            hidden = self._forward(embeds, positions, None, cache, recorder, like)
            return self._say(hidden[-1:])[0]

    @torch.inference_mode()
    def step(
        self,
        tokens: Int[Tensor, " nodes"],
        positions: Int[Tensor, "1 nodes"],
        mask: Bool[Tensor, "nodes last"] | None,
        cache: KVCache,
        *,
        as_stock: bool = False,
    ) -> Float[Tensor, "nodes vocab"]:
        # Products of several rows needn't be those of one to the bit, whoever makes them; with tiles they mostly are.
        embedding, num_rows = self._embedding, tokens.shape[0]
        like = self._like
        with nullcontext() if as_stock and num_rows == 1 else self._products(num_rows, like):
            embeds = Embeds(_rows_of(embedding, tokens))
            hidden = self._forward(embeds, positions, mask, cache, None, like, is_text=True, as_stock=as_stock)
            return self._say(hidden)

    @torch.no_grad()
    def stock_step(self, token: int, position: int, cache: Cache) -> Float[Tensor, " vocab"]:
        """A token as stock `generate` reads it: with the model's own attention, into a cache of transformers'."""
        embeds, positions = self.embed(torch.tensor([token])), torch.tensor([[position]], device=self.device)
        output = self.language_model(
            inputs_embeds=embeds[None],
            position_ids=self.in_rows(positions),
            attention_mask=self._no_mask if isinstance(self._no_mask, dict) else None,  # one row sees all there is
            use_cache=True,
            **{self.cache_name: cache},
        )
        return self._say(output.last_hidden_state[0])[0]

    def _say(self, hidden: Float[Tensor, "n D"]) -> Float[Tensor, "n vocab"]:
        """By the head, which is called as stock calls it, with a batch of one: hooks may hang on it."""
        return self.head(hidden[None])[0]

    def in_rows(self, positions: Int[Tensor, "_ new"]) -> Tensor:
        """As transformers wants them: [3, batch, new] for M-RoPE, where text stands alike in all rows."""
        return positions if self._position_rows == 1 else positions.expand(self._position_rows, -1)[:, None]

    def products(self, num_rows: int) -> AbstractContextManager[None]:
        """The fastest way to multiply so few rows."""
        return self._products(num_rows, self._like)

    def _products(self, num_rows: int, like: Tensor) -> AbstractContextManager[None]:
        """The fastest way to multiply so few rows by weights like this one."""
        return self._packed.products() if self._packed else thin_products(num_rows, like.dtype, like.device)

    def _forward(
        self,
        embeds: Embeds,
        positions: Int[Tensor, "_ new"],
        mask: Bool[Tensor, "new last"] | None,
        cache: KVCache,
        recorder: ScoreRecorder | None,
        like: Tensor,
        *,
        is_text: bool = False,
        as_stock: bool = False,
    ) -> Float[Tensor, "new D"]:
        """`like` is a weight of the dtype and on the device where embeddings and positions go in: to look it up takes
        longer than an operation on a few rows."""
        kernel: Callable[..., Tensor] = scaled_dot_product_attention
        alone: Sequence[Seen] | None = None
        folding: Folding | None = None
        length = cache.length + len(embeds)
        if as_stock:
            alone = [slice(None)] if mask is None else seen_by_each(mask, length)
        elif mask is not None and thin_attention_pays(mask.shape[0], like.dtype, like.device):
            kernel, folding = thin_attention, Folding(hiding_columns(mask), torch.float32)
        elif mask is not None:
            folding = Folding(mask.to(like.device), like.dtype, length)
        elif is_text and len(embeds) > 1:  # once a forward, not once a layer
            folding = Folding(causal_mask(len(embeds), len(embeds), like.device), like.dtype, length)

        ours = partial(attention_forward, mask=folding, recorder=recorder, kernel=kernel, alone=alone)
        attend = AskedAttention(self.name, ours)
        reading = cache.read_text(len(embeds), mask, like.device) if is_text else cache.read_prompt(len(embeds))
        # Who wants stock's numbers gets stock's kernels.
        kernels = nullcontext() if as_stock else without_cudnn(like.device)
        states = nullcontext()
        if self._delta_net is not None:
            states = self._delta_net.for_text() if is_text else self._delta_net.for_prompt()
        try:
            with reading as handed, kernels, states, lend_attention(attend, ForeignRefused(self.name)):
                hidden = self._read(embeds, positions, handed, like, is_text=is_text)
        except PassedByError as error:  # by kernels in the place of whole layers, say
            raise ModelError(f"{self.name}: its {error}; load it without kernels of its own") from error
        if not attend.was_asked:
            raise ModelError(
                f"{self.name} didn't ask transformers for its attention: this model, or this release, does it "
                "otherwise, and specvlm can't mask a tree in it"
            )
        if cache.length != length:
            raise ModelError(
                f"{self.name}: its first layer keeps no keys and values of {len(embeds)} tokens in its cache; only "
                "layers that do can be verified"
            )
        return hidden

    def _read(
        self, embeds: Embeds, positions: Int[Tensor, "_ new"], cache: KVCache, like: Tensor, *, is_text: bool
    ) -> Tensor:
        model, rows = self.language_model, embeds.rows.to(like.device, like.dtype)[None]
        placed = self.in_rows(positions.to(like.device))
        if is_text and can_walk(model):
            return walk(model, rows, placed, cache, self.cache_name)[0]
        deep: dict[str, Any] = {}
        if embeds.deep is not None and embeds.deep_mask is not None:
            deep = {
                "visual_pos_masks": embeds.deep_mask[None].to(like.device),
                "deepstack_visual_embeds": list(embeds.deep),
            }
        named = {self.cache_name: cache, **deep}
        output = model(inputs_embeds=rows, position_ids=placed, attention_mask=self._no_mask, use_cache=True, **named)
        return output.last_hidden_state[0]


def _rows_of(embedding: Any, tokens: Int[Tensor, " n"]) -> Float[Tensor, "n D"]:
    weight = embedding.weight
    there = device_of_work(embedding) if weight.is_meta else weight.device
    return embedding(tokens.to(there).clamp(max=weight.shape[0] - 1)[None])[0]  # as stock calls it
