"""LLaVA-OneVision over any text model: stock generate's tokens, or a refusal that says why."""

from __future__ import annotations

import pytest
from transformers import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

import tiny
from parity.conftest import Same
from parity.texts.text_models import ANSWERED, REFUSED, text_config, text_model
from specvlm.errors import ModelError
from specvlm.families.checks.layer_types import layer_types_of

EVERY_RUN = ("gpt_neox", "laguna", "gemma2", "gpt_oss")
"""One that counts no K/V heads, one whose layers have as many as they like, and two whose attention is more than a
softmax."""

ASKED = {"plan": "fixed", "tree": "paper", "pruning_ratio": 0.5, "max_new_tokens": 24}

pytestmark = pytest.mark.filterwarnings("ignore")  # of what a tiny config lacks


def kinds(names: tuple[str, ...]) -> list:
    """In `make parity` all of them that this transformers has, and those of `EVERY_RUN` in every run of the tests."""
    found = [name for name in names if name in CONFIG_MAPPING and name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES]
    return [name if name in EVERY_RUN else pytest.param(name, marks=pytest.mark.parity) for name in found]


@pytest.mark.parametrize("kind", kinds(ANSWERED))
def test_its_answers_are_stock_generates(kind: str, same: Same) -> None:
    target = text_model(kind)
    vlm = tiny.pair(target, tiny.noised(target, 0.02))
    answers = [same(vlm, tiny.film(5 + seed, seed), **ASKED) for seed in (1, 2)]
    answers.append(same(vlm, tiny.film(7, 2), **ASKED | {"tree": "dynamic", "pruning_ratio": 0.0}))
    assert sum(answer.stats.num_accepted for answer in answers) > 0
    if not vlm.target.decoder.folds:
        same(tiny.pair(target, "self"), tiny.film(6, 1), **ASKED)


@pytest.mark.parametrize("kind", kinds(tuple(REFUSED)))
def test_it_is_refused_when_it_is_loaded_as_target_and_as_draft(kind: str) -> None:
    model = text_model(kind)
    for pair in ((model, None), (tiny.llava_model(0), model)):
        with pytest.raises(ModelError) as caught:
            tiny.pair(*pair)
        assert REFUSED[kind] in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["mistral", *kinds(tuple(name for name in ANSWERED if name != "mistral"))])
def test_a_window_is_refused_once_an_answer_could_outgrow_it(kind: str) -> None:
    """Whether layers are named or not; a kind without windows has nothing to outgrow."""
    named = layer_types_of(text_config(kind, sliding_window=40))
    if "sliding_attention" in named:
        vlm = tiny.pair(text_model(kind, sliding_window=40), None)
        with pytest.raises(ModelError, match=r"a sliding window of (39|40|41) positions .* needs"):
            vlm.generate(tiny.film(7, 2), "what happens?", **ASKED)
    else:
        assert {*named} <= {"full_attention", "linear_attention"}


def test_a_text_model_that_looks_ahead_is_refused() -> None:
    """By its config alone: its layers say of themselves that they don't."""
    model = text_model("llama")
    model.config.text_config.is_causal = False
    with pytest.raises(ModelError, match="its text model has is_causal=False and looks ahead"):
        tiny.pair(model, None)
