"""Function-preserving widening: a small model inside the exact language-model shape of a published checkpoint.

The wide model computes the small one's function and costs what the published one costs. Speeds measured on it are those
of the real shape; what it says, and how often its draft agrees with it, are those of the small pair.

How (`d` numbers of a token are the small model's, of `D`):

- Hidden rows are padded with zeros. RMSNorm divides by the mean square, which padding lowers by d / D: its weights are
  multiplied by sqrt(d / D), its epsilon by d / D.
- More layers: they add exact zeros. More feed-forward channels: their gate reads nothing of the `d` numbers, so they
  are silu(0) = 0. More K/V heads: their values are 0. More query heads of a K/V head in use: o_proj doesn't read them.
- Longer heads: a rotary pair i of an n times shorter head turns at the frequency of pair n * i of a longer one with the
  same theta (which is why a wide model keeps the small one's theta), so that is where it goes; M-RoPE sections grow n
  times. Attention divides by the root of the longer length, so q is multiplied by sqrt(n). The other pairs' q is 0.
- More vocabulary: rows whose logit is out of the question (`specvlm.bench.widened.nesting.FORBIDDEN`).

What is free is random, and of everything else as little as possible is zero. Were o_proj and down_proj of the added
layers zero, whole pages would be; instead, what must vanish vanishes on the way *in*, in the d columns of v_proj and
gate_proj that read anything but zeros, and the matrices behind them, fed with exact zeros, are random. Where zeros are
needed they are written like other numbers: memory that was never written is one shared page of zeros, which a cache
serves at no cost. Queries of added heads are 0, so that they look at every position alike: that dilutes the attention
that a pruner is told of, and leaves its order as it was.

In float32 and float64 the function is the same but for the order of sums. In bfloat16 two factors, sqrt(d / D) and
sqrt(n), are rounded into the weights that they multiply.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from specvlm.bench.widened.blindness import Detector
from specvlm.bench.widened.nesting import MARK_WEIGHT, Nest, refuse_unless_fits, wide_epsilon
from specvlm.bench.widened.noise import Noise
from specvlm.bench.widened.shapes import Shape
from specvlm.errors import ModelError, OptionError

Model = TypeVar("Model", bound=PreTrainedModel)

DTYPES = (torch.bfloat16, torch.float32, torch.float64)

POSITIONS = 32_768
"""Positions that a wide model says it has at least, as the published ones do; rotary embeddings have no limit."""


@torch.no_grad()
def widen(
    model: Model,
    shape: Shape,
    *,
    detector: Detector | None = None,
    dtype: torch.dtype = torch.bfloat16,
    seed: int = 0,
) -> Model:
    """A new model of the same stock class whose language model has exactly `shape` and computes what `model` computes.

    The vision tower is `model`'s own, and so are name, processor, rotary theta and generation config; the projector's
    last layer is padded. Built in `dtype` on `model`'s device with no second copy of anything; `model` is left alone.

    With a `detector` (`specvlm.bench.widened.blank_frames.learn_detector`) no token looks at those of blank frames:
    whatever stands at its position, its hidden numbers are what they are without them. What that costs of the small
    model's function: nothing for LLaVA-OneVision in a shape of longer heads; where heads aren't longer, the slowest
    rotary pair of each, which queries no longer read; for Qwen2.5-VL, whose merger doesn't grow, its least useful
    hidden unit.

    Errors: ModelError for a family or a rotary embedding that can't be widened, or a shape that `model` doesn't fit in;
    OptionError for float16, whose range is too small.
    """
    if dtype not in DTYPES:
        raise OptionError(f"dtype must be one of {', '.join(map(str, DTYPES))}, not {dtype}")
    wide = _skeleton(model, shape, dtype)
    fill(model, wide, detector=detector, seed=seed)
    return wide


@torch.no_grad()
def fill(model: PreTrainedModel, wide: PreTrainedModel, *, detector: Detector | None = None, seed: int = 0) -> None:
    """Write all weights of `wide`, which `widen` made of `model`: once more, if something else was written there."""
    text, wide_text = model.model.language_model, wide.model.language_model
    small = Shape.of("the small model", model.config)
    noise = Noise(wide.dtype, wide.device, seed)
    nest = Nest(small, Shape.of("the wide model", wide.config), text.config.rms_norm_eps, noise, detector)
    for name, weight in model.named_parameters():
        if _is_language(name):
            continue
        twin = wide.get_parameter(name)
        if twin.shape == weight.shape:
            twin.copy_(weight)
    SURROUNDINGS[model.config.model_type].project(nest, model.model, wide.model)
    nest.tables(text.embed_tokens, model.lm_head, wide_text.embed_tokens, wide.lm_head)
    nest.norm(text.norm.weight, wide_text.norm.weight, mark=MARK_WEIGHT)
    for number, layer in enumerate(wide_text.layers):
        nest.layer(text.layers[number] if number < small.layers else None, layer)


def _skeleton(model: Model, shape: Shape, dtype: torch.dtype) -> Model:
    """The wide model with memory for its weights, not yet written and so not yet taken from the system."""
    config = _wide_config(model.config, shape)
    with torch.device("meta"):
        wide = type(model)(config)
    text = wide.model.language_model
    text.rotary_emb = type(text.rotary_emb)(config.text_config).to(model.device)
    for name, weight in list(wide.named_parameters()):
        _replace(wide, name, nn.Parameter(torch.empty(weight.shape, dtype=dtype, device=model.device)))
    for name, buffer in list(wide.named_buffers()):
        if buffer.is_meta:
            _replace(wide, name, model.get_buffer(name).clone())
    if shape.tied:
        wide.lm_head.weight = text.embed_tokens.weight
    wide.generation_config = copy.deepcopy(model.generation_config)
    return wide.eval()


def _replace(model: nn.Module, name: str, tensor: torch.Tensor) -> None:
    owner, _, key = name.rpartition(".")
    setattr(model.get_submodule(owner), key, tensor)


def _is_language(name: str) -> bool:
    return name.startswith(("model.language_model.", "lm_head."))


def _wide_config(config: PreTrainedConfig, shape: Shape) -> Any:
    if config.model_type not in SURROUNDINGS:
        raise ModelError(f"a {config.model_type} can't be widened, only {', '.join(SURROUNDINGS)}")
    wide: Any = copy.deepcopy(config)
    text, small = wide.text_config, Shape.of("the small model", config)
    refuse_unless_fits(small, shape)
    rope = text.rope_parameters
    if rope["rope_type"] != "default":
        raise ModelError(f"rotary embeddings of type {rope['rope_type']!r} can't be widened, only 'default'")
    if set(text.layer_types) != {"full_attention"}:
        raise ModelError(f"layers of type {min(set(text.layer_types) - {'full_attention'})!r} can't be widened")
    text.hidden_size, text.intermediate_size, text.vocab_size = shape.hidden, shape.ffn, shape.vocabulary
    text.num_hidden_layers, text.layer_types = shape.layers, ["full_attention"] * shape.layers
    text.num_attention_heads, text.num_key_value_heads = shape.heads, shape.kv_heads
    text.rms_norm_eps = wide_epsilon(text.rms_norm_eps, small.hidden, shape.hidden)
    text.max_position_embeddings = max(text.max_position_embeddings, POSITIONS)
    text.tie_word_embeddings = wide.tie_word_embeddings = shape.tied
    if "mrope_section" in rope:
        longer = shape.head_dim // small.head_dim
        text.rope_parameters = {**rope, "mrope_section": [longer * pairs for pairs in rope["mrope_section"]]}
    SURROUNDINGS[config.model_type].configure(wide, shape.hidden)
    if Shape.of(shape.name, wide) != shape:
        raise ModelError(
            f"{shape.name} has heads of {shape.head_dim}, and a {config.model_type} divides its hidden size of "
            f"{shape.hidden} by {shape.heads} heads"
        )
    return wide


@dataclass(frozen=True)
class Surroundings:
    """What stands around a family's language model and has to meet its hidden size."""

    configure: Callable[[Any, int], None]
    """(wide config, hidden size): where else the config says it."""
    project: Callable[[Nest, Any, Any], None]
    """(nest, small `model.model`, wide `model.model`): write the weights whose shape differs."""


def _project_llava_onevision(nest: Nest, small: Any, wide: Any) -> None:
    first, last = wide.multi_modal_projector.linear_1, wide.multi_modal_projector.linear_2
    small_first, small_last = small.multi_modal_projector.linear_1, small.multi_modal_projector.linear_2
    if small_first.bias is None:
        raise ModelError("a projector without bias can't be widened")
    hidden = len(small_first.bias)
    # Between the two, added channels are gelu(0) = 0, so that what reads them may be random.
    first.weight[hidden:].zero_()
    first.weight[:hidden].copy_(small_first.weight)
    first.bias[hidden:].zero_()
    first.bias[:hidden].copy_(small_first.bias)
    nest.into_stream(small_last, last)
    nest.detect(first, last)
    nest.stream(small.image_newline, wide.image_newline)


def _project_qwen2_5_vl(nest: Nest, small: Any, wide: Any) -> None:
    nest.into_stream(small.visual.merger.mlp[-1], wide.visual.merger.mlp[-1])
    nest.detect(wide.visual.merger.mlp[0], wide.visual.merger.mlp[-1])


def _configure_qwen2_5_vl(config: Any, hidden: int) -> None:
    config.vision_config.out_hidden_size = hidden


SURROUNDINGS: dict[str, Surroundings] = {
    "llava_onevision": Surroundings(lambda config, hidden: None, _project_llava_onevision),
    "qwen2_5_vl": Surroundings(_configure_qwen2_5_vl, _project_qwen2_5_vl),
}
