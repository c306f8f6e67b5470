"""What a checkpoint will weigh, from its config alone: its model is built of shapes, without memory for them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from transformers import AutoModelForImageTextToText, BitsAndBytesConfig, PreTrainedConfig, PreTrainedModel
from transformers.quantizers.auto import AutoHfQuantizer

from specvlm.engine.caches.recurrent_cache import RECURRENT
from specvlm.engine.tree import PAPER_TREE, DraftTree
from specvlm.families.checkpoints.keywords import Keywords
from specvlm.families.loading import Checkpoint
from specvlm.families.recurrent.delta_net import KINDS, held_bytes

SMALLEST = 0.5
"""Bytes of a quantised weight whose kind can't tell: those of four bits."""

_FAILURES = (ImportError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, OSError, AssertionError)
"""What building a model, or preparing it for quantised weights, can end with: told by whoever loads it."""

_TREE = DraftTree((0,) * PAPER_TREE.max_nodes, PAPER_TREE.parents)

Tower = tuple[tuple[tuple[int, ...], torch.dtype], ...]


@final
@dataclass(frozen=True)
class Weight:
    """What one model takes, in bytes."""

    name: str
    dtype: torch.dtype
    weights: int
    """All of its weights and buffers, as they will lie in memory."""
    token: int
    """Keys and values of one token, in all layers."""
    tower: Tower = ()
    """Shapes in the vision tower: with another's the same, one of the two is needed while answering."""
    tower_weights: int = 0
    quantised: bool = False
    mapped: bool = False
    """Whether on the CPU its weights can stay in their file, from which what has no room is read again and again."""
    state: int = 0
    """States of the layers that fold what they read, however much that is; 0 where there are none."""
    node: int = 0
    """What such layers hold of a guess, to replay it."""
    tip: int = 0
    """And beside it, if it is on the last level of its tree, where more may grow: its state."""

    def states(self, num_nodes: int = 0, num_tips: int = 0) -> int:
        """States of one sequence, and what is held of a tree of `num_nodes` behind it, with `num_tips` on its last
        level."""
        return self.state + num_nodes * self.node + num_tips * self.tip

    def cache(self, context: int) -> int:
        """What `context` tokens take, prompt and answer together: keys and values, and states behind which the paper's
        tree is held."""
        if not context:
            return 0
        last = max(_TREE.depths)
        return self.token * context + self.states(len(_TREE), sum(depth == last for depth in _TREE.depths))

    def with_cache(self, context: int) -> int:
        """Its weights, and what `context` tokens take."""
        return self.weights + self.cache(context)


def together(models: Sequence[Weight], context: int, *, once: bool) -> int:
    """Bytes of models on one device. `once`: vision towers that may turn out to be the same count once. Then it is the
    least that answering takes; while both are loaded there are two."""
    total = sum(model.with_cache(context) for model in models)
    if once and len(models) == 2 and models[0].tower and models[0].tower == models[1].tower:
        total -= models[1].tower_weights
    return total


def weigh(checkpoint: Checkpoint) -> Weight | None:
    """Takes a fifth of a second for 7B and no memory; None for a model that can't be built, as loading it will say."""
    how, config = checkpoint.how, copy.deepcopy(checkpoint.config)
    for name in how.more.keys() & vars(config).keys() - {"quantization_config"}:
        setattr(config, name, how.more[name])
    dtype = how.dtype_of(config)
    try:
        with torch.device("meta"):
            model = AutoModelForImageTextToText.from_config(
                config, dtype=dtype, attn_implementation="eager", trust_remote_code=how.trusts
            )
        tower = [tensor for part in checkpoint.family(model, None, checkpoint.name).tower for tensor in _tensors(part)]
    except _FAILURES:
        return None
    asked, own = how.more.get("quantization_config"), getattr(config, "quantization_config", None)
    quantiser = _quantiser(model, asked, own, dtype) if asked or own else None
    sizes = {id(tensor): tensor.numel() * _element(model, name, tensor, quantiser) for name, tensor in _named(model)}
    if (asked or own) and quantiser is None:
        sizes = {key: size * SMALLEST / dtype.itemsize for key, size in sizes.items()}
    return Weight(
        checkpoint.name,
        dtype,
        round(sum(sizes.values())),
        _token_bytes(config, dtype),
        tuple((tuple(tensor.shape), tensor.dtype) for tensor in tower),
        round(sum(sizes.get(id(tensor), 0) for tensor in tower)),
        bool(asked or own),
        not asked and not own and _stored(checkpoint.config) == dtype,
        *_state_bytes(config, dtype),
    )


def _stored(config: PreTrainedConfig) -> torch.dtype:
    return Keywords("target_kwargs").dtype_of(config)


def _quantiser(model: PreTrainedModel, asked: Any, own: Any, dtype: torch.dtype) -> Any:
    """transformers' own, when it has put layers for quantised weights in; None if it can't here."""
    try:
        found: Any = AutoHfQuantizer.from_config(copy.deepcopy(own or asked), pre_quantized=own is not None)
        found.preprocess_model(model, dtype=dtype, device_map={"": "cpu"}, checkpoint_files=None)
    except _FAILURES:
        return None
    return found


def _element(model: PreTrainedModel, name: str, tensor: torch.Tensor, quantiser: Any) -> float:
    if quantiser is None:
        return float(tensor.element_size())
    size = float(quantiser.param_element_size(model, name, tensor))
    if size == SMALLEST and isinstance(config := quantiser.quantization_config, BitsAndBytesConfig):
        # Which leaves out the scale of each 64 weights: in float32, or in a byte with a scale of its own for each 256.
        size += 1 / 64 + 4 / 64 / 256 if config.bnb_4bit_use_double_quant else 4 / 64
    return size


def _named(model: PreTrainedModel) -> Sequence[tuple[str, torch.Tensor]]:
    """Each tensor once: a head that is tied to the embedding is, before it is loaded, still one of its own."""
    tied = getattr(model, "all_tied_weights_keys", {}).keys()
    found = [*model.named_parameters(), *model.named_buffers()]
    return [(name, tensor) for name, tensor in found if name not in tied]


def _tensors(module: torch.nn.Module) -> Sequence[torch.Tensor]:
    return [*module.parameters(), *module.buffers()]


def _token_bytes(config: PreTrainedConfig, dtype: torch.dtype) -> int:
    """Of keys and values. Layers that fold what they read keep none."""
    text: Any = config.get_text_config()
    kinds = getattr(text, "layer_types", None) or ["full_attention"] * text.num_hidden_layers
    differ = bool(getattr(text, "per_layer_attributes", None))
    layers: Sequence[Any] = text.per_layer_config if differ else [text] * text.num_hidden_layers
    keeping = [layer for layer, kind in zip(layers, kinds, strict=True) if kind != RECURRENT]
    return 2 * sum(map(_width, keeping)) * dtype.itemsize


def _width(layer: Any) -> int:
    """Of all K/V heads of a layer together. Where a config counts none, each head has keys and values of its own."""
    heads = layer.num_attention_heads
    width = getattr(layer, "head_dim", None) or layer.hidden_size // heads
    return width * (getattr(layer, "num_key_value_heads", None) or heads)


def _state_bytes(config: PreTrainedConfig, dtype: torch.dtype) -> tuple[int, int, int]:
    """Of a sequence, of a node, and of one on the last level."""
    text: Any = config.get_text_config()
    if text.model_type not in KINDS:
        return 0, 0, 0
    state, node, tip = (held_bytes(text, dtype, *tree) for tree in ((0, 0), (1, 0), (0, 1)))
    return state, node - state, tip - state
