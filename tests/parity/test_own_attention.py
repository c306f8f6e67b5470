"""Attention of somebody's own is refused by name; transformers' own, which ours computes too, is accepted.

The vision tower's is nobody's business: it is used as it is found.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, AttentionInterface

import specvlm
import tiny
from parity.conftest import Same
from specvlm.errors import ModelError
from specvlm.pipeline import SpecVLM

FILM, QUESTION = tiny.film(5, 1), "what happens?"
ASKED = {"tree": "paper", "pruning_ratio": 0.0, "max_new_tokens": 24}

Attention = Callable[..., Any]


def sharper(module: nn.Module, query: Tensor, *more: Any, **kwargs: Any) -> tuple[Tensor, None]:
    """Looks twice as closely, by the function that transformers has for everybody."""
    return sdpa_attention_forward(module, 2 * query, *more, **kwargs)


@functools.wraps(sdpa_attention_forward)
def disguised(*args: Any, **kwargs: Any) -> tuple[Tensor, None]:
    return sharper(*args, **kwargs)


@pytest.fixture
def register(monkeypatch) -> Callable[..., None]:
    """Register an attention for the length of a test, with sdpa's masks."""

    def register(name: str, function: Attention) -> None:
        monkeypatch.setitem(AttentionInterface._global_mapping, name, function)
        monkeypatch.setitem(AttentionMaskInterface._global_mapping, name, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])

    return register


def asking_for(attention: Any, family: str = "llava_onevision", seed: int = 0) -> PreTrainedModel:
    model = tiny.model(family, seed)
    model.set_attn_implementation(attention)
    return model


def refused(target: PreTrainedModel, draft: Any, reason: str) -> None:
    with pytest.raises(ModelError, match=reason) as caught:
        tiny.pair(target, draft)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("family", tiny.BUILDERS)
def test_an_attention_that_somebody_registered_is_refused_by_name(register, family):
    register("mine", sharper)
    for attention in ("mine", {"text_config": "mine"}):
        model = asking_for(attention, family)
        for draft in (None, "self"):
            refused(model, draft, r"tiny target attends with mine which isn't .* attn_implementation=\"sdpa\"")


@pytest.mark.parametrize("function", [sharper, disguised, functools.partial(sharper)], ids=["plain", "wrapped", "part"])
@pytest.mark.parametrize("name", ["sdpa", "eager", "flash_attention_2"])
def test_so_is_one_that_was_registered_under_a_known_name(monkeypatch, name, function):
    model = tiny.model("llava_onevision", 0)
    model.model.language_model.config._attn_implementation = name
    monkeypatch.setitem(AttentionInterface._global_mapping, name, function)
    refused(model, None, f"attends with {name}, registered anew, which isn't transformers' own")


def test_so_is_one_that_stands_in_the_local_mapping_alone(monkeypatch):
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._local_mapping, "sdpa", sharper)
    refused(asking_for("sdpa"), None, "attends with sdpa, registered anew,")


def test_so_is_a_mask_of_somebodys_own(monkeypatch):
    def all_see_all(*args: Any, **kwargs: Any) -> None:
        return None

    monkeypatch.setitem(AttentionMaskInterface._global_mapping, "sdpa", all_see_all)
    refused(asking_for("sdpa"), None, "attends with sdpa, registered anew,")


def test_so_is_a_kernel_that_took_the_place_of_torchs(monkeypatch):
    """As some kernels want to be installed: functional.scaled_dot_product_attention = theirs."""
    own = torch.nn.functional.scaled_dot_product_attention
    model = asking_for("sdpa")
    monkeypatch.setattr(
        torch.nn.functional, "scaled_dot_product_attention", lambda query, *more, **kw: own(2 * query, *more, **kw)
    )
    refused(model, None, "scaled_dot_product_attention that isn't torch's own")


def test_so_is_one_that_a_model_takes_up_later(register):
    register("mine", sharper)
    vlm = tiny.pair(model := tiny.model("llava_onevision", 0), "self")
    assert vlm.generate(FILM, QUESTION, **ASKED).token_ids
    model.set_attn_implementation("mine")
    with pytest.raises(ModelError, match="attends with mine"):
        vlm.generate(FILM, QUESTION, **ASKED)


def test_so_is_that_of_a_draft_when_it_is_loaded(register):
    register("mine", sharper)
    refused(tiny.model("llava_onevision", 0), asking_for("mine", seed=1), "tiny draft attends with mine")


def test_so_it_is_at_the_drop_in(register):
    register("mine", sharper)
    model = asking_for("mine")
    inputs = tiny.family(model).prepare([FILM], QUESTION).model_inputs
    for draft in (None, "self", tiny.model("llava_onevision", 1)):
        with pytest.raises(ModelError, match="attends with mine"):
            model.generate(**inputs, custom_generate=specvlm.custom_generate, draft_model=draft, max_new_tokens=4)


@pytest.mark.parametrize("attention", ["mine", "sdpa"])
def test_unchecked_answers_would_differ(register, monkeypatch, attention):
    for room in ("pair", "request"):
        monkeypatch.setattr(f"specvlm.answering.{room}.check_forwards", lambda target, draft: None)
    monkeypatch.setattr("specvlm.families.checks.stock_attention.refuse_foreign", lambda *asked: None)
    monkeypatch.setattr("specvlm.families.decoder.refuse_foreign", lambda *asked: None)
    register(attention, sharper)
    vlm = tiny.pair(model := asking_for(attention), tiny.noised(model, 0.02))
    answers = [vlm.generate(tiny.film(5, seed), QUESTION, **ASKED).token_ids for seed in range(4)]
    right = [vlm.autoregressive(tiny.film(5, seed), QUESTION, **ASKED).token_ids for seed in range(4)]
    assert answers != right


@pytest.mark.parametrize("family", tiny.BUILDERS)
def test_the_towers_attention_is_left_to_whoever_chose_it(register, family, same: Same):
    calls = []

    def counted(module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Tensor, None]:
        calls.append(type(module).__name__)
        return sharper(module, *args, **kwargs)

    register("mine", counted)
    vlm = tiny.pair(model := asking_for({"vision_config": "mine"}, family), tiny.noised(model, 0.02))
    assert calls == []
    vlm.generate(FILM, QUESTION, **ASKED)
    assert calls
    assert same(vlm, FILM, **ASKED).stats.num_accepted > 0
    assert {name for name in calls if "Text" in name or name.startswith("Qwen2Att")} == set()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", tiny.BUILDERS)
def test_transformers_own_is_ours_too(family, attention, same: Same):
    vlm = tiny.pair(model := asking_for(attention, family), tiny.noised(model, 0.02))
    assert same(vlm, FILM, **ASKED).stats.num_accepted > 0


def llava_with(text: Any, **more: Any) -> PreTrainedModel:
    """LLaVA-OneVision's eyes on another language model."""
    stock = tiny.llava_model(0)
    mine = stock.config.text_config
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
             "num_key_value_heads", "initializer_range", "bos_token_id", "eos_token_id", "pad_token_id")  # fmt: skip
    given = {name: getattr(mine, name) for name in names} | {"head_dim": 8, "max_position_embeddings": 4096} | more
    config = type(stock.config)(**{**stock.config.to_dict(), "text_config": text(**given).to_dict()})
    torch.manual_seed(0)
    model = type(stock)(config).eval()
    model.generation_config.eos_token_id = stock.generation_config.eos_token_id
    model.generation_config.pad_token_id = stock.generation_config.pad_token_id
    return model


@pytest.mark.parametrize(
    ("text", "keyword"), [(transformers.Gemma2Config, "softcap"), (transformers.GptOssConfig, "s_aux")]
)
def test_what_a_layer_wants_beside_a_causal_softmax_is_refused_by_name(text, keyword):
    model = llava_with(text)
    model.set_attn_implementation("eager")
    refused(model, None, f"tiny target: .*Attention wants {keyword} of its attention")
    refused(tiny.llava_model(0), model, f"tiny draft: .*Attention wants {keyword} of its attention")


def test_a_layer_that_looks_ahead_is_refused():
    model = tiny.llava_model(0)
    model.model.language_model.layers[1].self_attn.is_causal = False
    refused(model, None, "Qwen2Attention looks ahead")


@pytest.mark.parametrize(
    "text", [transformers.LlamaConfig, transformers.Phi3Config, transformers.Qwen3Config, transformers.SmolLM3Config]
)
def test_other_language_models_are_taken_as_they_are(text, same: Same):
    """With layers of several types, or of one that has no name."""
    vlm = tiny.pair(model := llava_with(text), tiny.noised(model, 0.02))
    assert same(vlm, FILM, **ASKED).stats.num_accepted > 0


def test_a_window_is_heeded_where_layers_have_no_types_too(same: Same):
    prompt_len = tiny.llava(tiny.llava_model(0)).prepare([FILM], QUESTION).num_tokens
    vlm: SpecVLM = tiny.pair(llava_with(transformers.MistralConfig, sliding_window=prompt_len + 60), None)
    same(vlm, FILM, max_new_tokens=24)
    with pytest.raises(ModelError, match=f"sliding window of {prompt_len + 60} positions"):
        vlm.generate(FILM, QUESTION, max_new_tokens=61)
