"""Models whose rows see each other, or are rounded to steps, are refused by name; all others are accepted, and right.

With each of the refused ones goes its negative control: unprobed, its answers differ from stock generate's.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import bitsandbytes
import pytest
import torch
import torchao.quantization as torchao
from torch import Tensor, nn
from transformers import PreTrainedModel

import specvlm
import tiny
from parity.conftest import Same
from specvlm.errors import ModelError
from specvlm.families.decoder import HFDecoder

pytestmark = [
    pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated"),
    pytest.mark.filterwarnings("ignore:MatMul8bitLt. inputs will be cast"),
    pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor"),
]

FILM, QUESTION = tiny.film(5, 1), "what happens?"
ASKED = {"tree": "paper", "pruning_ratio": 0.0, "max_new_tokens": 24}

Change = Callable[[nn.Module], nn.Module]


def exchanged(model: PreTrainedModel, change: Change, where: str = "") -> PreTrainedModel:
    """The model, with every linear layer of its language model whose name ends so changed by `change`."""
    for parent in list(model.model.language_model.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Linear and name.endswith(where):
                setattr(parent, name, change(layer).eval())
    return model


def by_torch(layer: nn.Module) -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(nn.Sequential(layer), {nn.Linear})[0]


def by_torchao(how: Any) -> Change:
    def change(layer: nn.Module) -> nn.Module:
        torchao.quantize_(whole := nn.Sequential(layer), how())
        return whole[0]

    return change


def by_bitsandbytes(kind: Any, **options: Any) -> Change:
    def change(layer: nn.Module) -> nn.Module:
        other = kind(layer.in_features, layer.out_features, bias=layer.bias is not None, **options)
        other.load_state_dict(layer.state_dict())
        return other.to("cpu")

    return change


class InOneScale(nn.Module):
    """A layer that rounds what it reads by the largest number of all rows, as activations in 8 bits are."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        step = x.abs().max() / 127
        return self.inner((x / step).round() * step)


class Crowd(nn.Module):
    """An expert with room for two rows of a forward, as experts with a capacity have: later ones get nothing."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.inner(x[:, :2]), torch.zeros_like(x[:, 2:])], dim=1)


class Normed(nn.Module):
    """Each column is scaled by all rows, as batch norm does it in training."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) / (1 + self.inner(x).std(dim=1, keepdim=True, correction=0))


def with_blocks(model: PreTrainedModel, kind: Callable[[nn.Module], nn.Module]) -> PreTrainedModel:
    """The model with such a thing around its second layer's feed-forward block."""
    layer = model.model.language_model.layers[1]
    layer.mlp = kind(layer.mlp).eval()
    return model


LLM_INT8 = by_bitsandbytes(bitsandbytes.nn.Linear8bitLt, has_fp16_weights=False, threshold=6.0)
ROWS_INT8 = by_bitsandbytes(bitsandbytes.nn.Linear8bitLt, has_fp16_weights=False, threshold=0.0)
NF4 = by_bitsandbytes(bitsandbytes.nn.Linear4bit, quant_type="nf4")
DYNAMIC_INT8 = by_torchao(torchao.Int8DynamicActivationInt8WeightConfig)

REFUSED: dict[str, tuple[Callable[[PreTrainedModel], PreTrainedModel], str]] = {
    "LLM.int8()": (lambda model: exchanged(model, LLM_INT8), r"q_proj \(Linear8bitLt of Int8Params\) makes other"),
    "int8 rows": (lambda model: exchanged(model, ROWS_INT8), r"q_proj \(Linear8bitLt of Int8Params\) rounds what"),
    "quantize_dynamic": (lambda model: exchanged(model, by_torch), r"layers\.0\.self_attn\.q_proj .* makes other"),
    "torchao": (lambda model: exchanged(model, DYNAMIC_INT8), r"q_proj \(Linear of Int8Tensor\) rounds what"),
    "one scale": (lambda model: with_blocks(model, InOneScale), "can't be verified as a tree"),
    "capacity": (lambda model: with_blocks(model, Crowd), "can't be verified as a tree"),
    "batch norm": (lambda model: with_blocks(model, Normed), "can't be verified as a tree"),
}

WEIGHTS_ALONE: dict[str, Change] = {
    "int8": by_torchao(torchao.Int8WeightOnlyConfig),
    "float8": by_torchao(torchao.Float8WeightOnlyConfig),
    "nf4": NF4,
}


def big(**more: Any) -> PreTrainedModel:
    """Wide enough for a block of nf4."""
    return tiny.model("llava_onevision", 0, hidden=64, heads=8, kv_heads=4, **more)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_lets_rows_see_each_other_is_refused_with_a_draft_and_without(kind):
    change, reason = REFUSED[kind]
    model = change(big())
    for draft in (None, "self"):
        with pytest.raises(ModelError, match=reason) as caught:
            tiny.pair(model, draft)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [kind for kind in REFUSED if kind != "int8 rows"])  # bitsandbytes' are seldom met
def test_unprobed_its_answers_differ(monkeypatch, kind):
    for room in ("pair", "request"):
        monkeypatch.setattr(f"specvlm.answering.{room}.check_forwards", lambda target, draft: None)
    vlm = tiny.pair(REFUSED[kind][0](big()), tiny.noised(big(), 0.02))
    films = [tiny.film(5, seed) for seed in range(8)]
    assert any(
        vlm.generate(film, QUESTION, **ASKED).token_ids != vlm.autoregressive(film, QUESTION, **ASKED).token_ids
        for film in films
    )


@pytest.mark.parametrize("error", [AssertionError, RuntimeError, NotImplementedError])
def test_layers_that_cannot_be_run_are_refused_in_one_line(error):
    """As some of quantised weights say of sizes that they don't take, or in torch's inference mode."""

    class Fails(nn.Linear):
        def forward(self, rows: Tensor) -> Tensor:
            raise error("N must be\ndivisible by block_n")

    def change(layer: nn.Module) -> nn.Module:
        return Fails(layer.in_features, layer.out_features, bias=layer.bias is not None)

    with pytest.raises(ModelError, match=f"can't be run over a tree: {error.__name__}: N must be divisible"):
        tiny.pair(exchanged(big(), change, "up_proj"), None)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("kind", ["LLM.int8()", "one scale", "capacity", "batch norm"])
def test_it_is_seen_through_coarser_rounding_too(kind, dtype):
    change, reason = REFUSED[kind]
    with pytest.raises(ModelError, match=reason):
        tiny.pair(change(big(dtype=dtype)), None)


@pytest.mark.parametrize("kind", WEIGHTS_ALONE)
def test_quantised_weights_are_accepted_and_right(kind, same: Same):
    vlm = tiny.pair(exchanged(big(), WEIGHTS_ALONE[kind]), tiny.noised(big(), 0.02))
    for seed in range(3):
        assert same(vlm, tiny.film(5, seed), **ASKED).stats.num_accepted > 0
        same(vlm.without_draft(), tiny.film(5, seed), max_new_tokens=24)


@pytest.mark.parametrize("kind", ["int8 rows", "torchao"])
def test_rows_that_are_rounded_each_for_itself_are_accepted_where_all_is_rounded(kind):
    """In bfloat16 that is no coarser than the rest, and a row is what it is, whatever stands beside it."""
    vlm = tiny.pair(REFUSED[kind][0](big(dtype=torch.bfloat16)), None)
    answer = vlm.generate(FILM, QUESTION, **ASKED)
    assert answer.token_ids == vlm.autoregressive(FILM, QUESTION, **ASKED).token_ids


@pytest.mark.parametrize("kind", ["LLM.int8()", "quantize_dynamic", "capacity"])
def test_a_draft_may_be_of_any_kind(kind, same: Same):
    same(tiny.pair(big(), REFUSED[kind][0](big())), FILM, **ASKED)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("family", tiny.BUILDERS)
def test_models_as_they_come_are_accepted(family, dtype, attention):
    model = tiny.model(family, 1, dtype=dtype)
    model.set_attn_implementation(attention)
    draft = tiny.model(family, 2, dtype=dtype)
    before, dice = tiny.fingerprint(model), torch.get_rng_state()
    tiny.pair(model, draft)
    assert tiny.fingerprint(model) == before
    assert torch.equal(torch.get_rng_state(), dice)


def test_a_router_that_is_a_linear_layer_and_gives_shares_is_let_pass():
    class Shares(nn.Linear):
        def forward(self, rows: Tensor) -> Tensor:
            return super().forward(rows).softmax(-1)

    def share(layer: nn.Module) -> nn.Module:
        other = Shares(layer.in_features, layer.out_features, bias=layer.bias is not None)
        other.load_state_dict(layer.state_dict())
        return other

    tiny.pair(exchanged(big(), share, "up_proj"), None)


@pytest.fixture
def forwards(monkeypatch) -> list[int]:
    """Rows of each forward."""
    seen, original = [], HFDecoder._forward

    def counted(self: HFDecoder, embeds: Any, *more: Any, **ways: Any) -> Tensor:
        seen.append(len(embeds))
        return original(self, embeds, *more, **ways)

    monkeypatch.setattr(HFDecoder, "_forward", counted)
    return seen


def test_a_model_is_probed_once_until_it_is_changed(forwards):
    model = big()
    tiny.pair(model, big())
    assert 0 < len(forwards) < 5
    assert max(forwards) < 10
    forwards.clear()
    tiny.pair(model, None)
    tiny.pair(model, "self")
    assert forwards == []
    exchanged(model, by_torch, "up_proj")
    with pytest.raises(ModelError, match=r"layers\.0\.mlp\.up_proj"):
        tiny.pair(model, None)


def test_the_drop_in_probes_once_too_and_notices_a_change(forwards):
    model, draft = big(), big()
    inputs = tiny.family(model).prepare([FILM], QUESTION).model_inputs
    ask = {"custom_generate": specvlm.custom_generate, "draft_model": draft, "max_new_tokens": 1, "do_sample": False}
    model.generate(**inputs, **ask)
    first = len(forwards)
    forwards.clear()
    model.generate(**inputs, **ask)
    assert len(forwards) == 1 < first  # that of the prompt
    model.model.language_model.layers[2].mlp.down_proj.register_forward_pre_hook(
        lambda layer, given: ((given[0] * 127 / given[0].abs().max()).round() * given[0].abs().max() / 127,)
    )
    with pytest.raises(ModelError, match=r"layers\.2\.mlp\.down_proj \(Linear of Parameter\) makes other numbers"):
        model.generate(**inputs, **ask)


def test_models_are_not_kept_for_having_been_probed():
    import gc
    import weakref

    model = big()
    tiny.pair(model, None)
    seen = weakref.ref(model)
    del model
    gc.collect()
    assert seen() is None


def test_no_warning_of_ours_comes_with_it():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny.pair(copy.deepcopy(big()), None)
