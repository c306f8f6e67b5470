"""Gated delta networks (arXiv:2412.06464) over a tree: transformers' layers as they are, and their own recurrence,
called with each guess's own past.

A stock layer projects all rows at once, runs a short convolution and a recurrence along them, and projects back. For
the length of a forward over a tree the two in the middle are lent others: these call the very functions that stock
`generate` calls for a token, once for each level of the tree, where every node is a sequence by itself in a batch. A
prompt is read by the layer alone, in chunks, as stock does it; the two forms round differently.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from types import ModuleType
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from specvlm.engine.caches.recurrent_cache import RECURRENT, Growing, Marking
from specvlm.engine.caches.recurrent_layer import Inputs
from specvlm.engine.kernels.lending import Borrower
from specvlm.families.releases import STATES_ARE_ASKED_FOR

Function = Callable[..., Any]

KINDS = frozenset(("qwen3_5_text", "qwen3_5_moe_text"))
"""The `model_type` of text models whose recurrent layers are of this kind."""

ONE, MANY = "torch_recurrent_gated_delta_rule", "torch_chunk_gated_delta_rule"
"""The recurrence by transformers' names: for a token, and for a prompt."""

CONVOLVE_ONE, CONVOLVE_MANY = "causal_conv1d_update", "causal_conv1d_fn"
"""The convolution."""


@final
@dataclass(frozen=True, eq=False)
class DeltaNet:
    """The recurrent layers of one of transformers' modules."""

    one: Borrower
    many: Borrower
    convolution: Borrower
    """Where layers look up the recurrence, for a token and for a prompt, and the convolution of a prompt."""
    grow: Function
    convolve: Function
    mark: Function

    @classmethod
    def of(cls, language_model: nn.Module) -> DeltaNet | None:
        """None for layers of another kind, or of a release of transformers that calls things otherwise."""
        config: Any = language_model.config
        module = sys.modules[type(language_model).__module__]
        known = STATES_ARE_ASKED_FOR and config.model_type in KINDS
        return _of_module(module) if known else None

    @contextmanager
    def for_text(self) -> Iterator[None]:
        """A block in which layers read what they are handed (`TreeView`) branch by branch, in this thread alone."""
        with self.many.lend(self.grow), self.one.lend(self.grow), self.convolution.lend(self.convolve):
            yield

    @contextmanager
    def for_prompt(self) -> Iterator[None]:
        """A block in which layers make a mark where they are asked to (`PromptView`), in this thread alone."""
        with self.many.lend(self.mark):
            yield


@lru_cache
def _of_module(module: ModuleType) -> DeltaNet:
    """Made before anything of the module is lent: what stands there then is its own."""
    one, many, convolve_one = (getattr(module, name) for name in (ONE, MANY, CONVOLVE_ONE))
    return DeltaNet(
        one=Borrower(module, ONE),
        many=Borrower(module, MANY),
        convolution=Borrower(module, CONVOLVE_MANY),
        grow=partial(_grow, one),
        convolve=partial(_convolve, convolve_one),
        mark=partial(_mark, many),
    )


def held_bytes(config: Any, dtype: torch.dtype, num_nodes: int = 0, num_tips: int = 0) -> int:
    """Bytes that all recurrent layers of a text `config` hold between two forwards: their states, and of a tree of
    `num_nodes` what it takes to replay them, with the states of the `num_tips` nodes of its last level."""
    keys = config.linear_num_key_heads * config.linear_key_head_dim
    values = config.linear_num_value_heads * config.linear_value_head_dim
    heads, size = config.linear_num_value_heads, dtype.itemsize
    channels = 2 * keys + values
    memory = 4 * values * config.linear_key_head_dim  # transformers keeps it in float32, whatever the model computes in
    node = (channels + keys + values + heads) * size + heads * max(4, size)
    layer = channels * config.linear_conv_kernel_dim * size + (1 + num_tips) * memory + num_nodes * node
    return layer * sum(kind == RECURRENT for kind in config.layer_types)


def _convolve(
    own: Function,
    windows: Float[Tensor, "n channels wide"],
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
    **kwargs: Any,
) -> Float[Tensor, "1 channels n"]:
    """In the place of `causal_conv1d_fn`: of each node's window the last column, behind those of its branch."""
    own_column, before = windows[:, :, -1:], windows[:, :, :-1].contiguous()  # which is written to
    return own(own_column, before, weight, bias, activation)[:, :, 0].T[None]


def _grow(
    own: Function,
    query: Float[Tensor, "1 n heads key_dim"],
    key: Float[Tensor, "1 n heads key_dim"],
    value: Float[Tensor, "1 n value_heads value_dim"],
    *,
    g: Float[Tensor, "1 n value_heads"],
    beta: Float[Tensor, "1 n value_heads"],
    initial_state: Growing,
    **named: Any,
) -> tuple[Float[Tensor, "1 n value_heads value_dim"], None]:
    """In the place of either form of the recurrence: by the one for a token, and from each node's own past."""
    return initial_state.grow(partial(_advance, own, named), (query, key, value, g, beta)), None


def _mark(
    own: Function,
    query: Float[Tensor, "1 n heads key_dim"],
    key: Float[Tensor, "1 n heads key_dim"],
    value: Float[Tensor, "1 n value_heads value_dim"],
    *,
    g: Float[Tensor, "1 n value_heads"],
    beta: Float[Tensor, "1 n value_heads"],
    initial_state: Any,
    **named: Any,
) -> tuple[Float[Tensor, "1 n value_heads value_dim"], Tensor]:
    """In the place of the recurrence for a prompt: itself, and beforehand once more up to the mark."""
    if not isinstance(initial_state, Marking):
        return own(query, key, value, g=g, beta=beta, initial_state=initial_state, **named)
    inputs, memory = (query, key, value, g, beta), initial_state.memory
    initial_state.mark(_advance(own, named, tuple(each[:, : initial_state.offset] for each in inputs), memory)[1])
    return _advance(own, named, inputs, memory)


def _advance(own: Function, named: dict[str, Any], inputs: Inputs, states: Tensor | None) -> tuple[Tensor, Tensor]:
    query, key, value, decay, beta = inputs
    return own(query, key, value, g=decay, beta=beta, initial_state=states, **named)
