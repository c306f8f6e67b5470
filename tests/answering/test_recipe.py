"""prepare_generation: what decides about tokens is what stock generate would decide with, or is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import tiny
from specvlm.answering.options import Options
from specvlm.answering.recipe import MOST_NEW_TOKENS, Recipe, prepare_generation, with_length
from specvlm.engine.stats import Stats
from specvlm.errors import OptionError

IDS = torch.tensor([70, 71, 72, 70])


def plain(thing: Any) -> Any:
    """An object's type and state, comparable: tensors by value."""
    if isinstance(thing, torch.Tensor):
        return thing.tolist()
    if isinstance(thing, (list, tuple)):
        return [plain(item) for item in thing]
    if isinstance(thing, dict):
        return {key: plain(value) for key, value in thing.items()}
    if type(thing).__module__.startswith("transformers.generation"):
        return type(thing).__name__, {name: plain(value) for name, value in vars(thing).items() if name != "tokenizer"}
    return thing


def prepared(model, **options: Any) -> Recipe:
    return prepare_generation(tiny.family(model), IDS, Options(**options))


SHIPPED = [
    {},
    {"repetition_penalty": 1.05, "do_sample": True, "temperature": 0.7, "top_k": 7},
    {"suppress_tokens": [9]},
]
ASKED = [
    {},
    {"do_sample": True, "temperature": 0.5, "top_k": 11, "top_p": 0.8, "min_p": 0.02},
    {"do_sample": False, "repetition_penalty": 1.3},
    {"stop": ("red", "ball"), "max_new_tokens": 3},
]


@pytest.mark.parametrize("shipped", SHIPPED, ids=str)
@pytest.mark.parametrize("asked", ASKED, ids=str)
def test_processors_and_criteria_are_those_of_generate(monkeypatch, shipped, asked):
    """The checkpoint's settings and the caller's, merged and put in order by generate itself."""
    model = tiny.llava_model(0, layers=1)
    for name, value in shipped.items():
        setattr(model.generation_config, name, value)
    seen = {}

    def spy(self, input_ids, logits_processor, stopping_criteria, generation_config, **kwargs):
        seen.update(processors=logits_processor, criteria=stopping_criteria, config=generation_config)
        return input_ids

    monkeypatch.setattr(type(model), "_sample", spy)
    kwargs = with_length(tiny.family(model), len(IDS), Options(**asked)).generate_kwargs()
    model.generate(input_ids=IDS[None], attention_mask=torch.ones(1, 4), tokenizer=tiny.tokenizer(), **kwargs)
    recipe = prepared(model, **asked)
    assert plain(recipe.processors) == plain(seen["processors"])
    by_name = {type(criterion).__name__: plain(criterion) for criterion in recipe.criteria}
    assert by_name == {type(criterion).__name__: plain(criterion) for criterion in seen["criteria"]}
    assert recipe.config.do_sample == seen["config"].do_sample
    assert recipe.chooser(None).do_sample == bool(seen["config"].do_sample)


def test_the_criteria_that_every_answer_has_are_taken_apart():
    model = tiny.llava_model(0, layers=1)
    model.generation_config.eos_token_id = [5, 7]
    stopping = prepared(model).stopping(9)
    assert (stopping.max_new_tokens, stopping.eos_ids, stopping.criterion) == (9, frozenset({5, 7}), None)
    stopping = prepared(model, stop=("red",)).stopping(9)
    red, blue = (torch.tensor([tiny.tokenizer().encode(word)]) for word in ("a red", "a blue"))
    assert stopping.criterion is not None
    assert (stopping.criterion(red), stopping.criterion(blue)) == (True, False)


def test_a_model_without_an_end_token_never_ends_by_one():
    model = tiny.llava_model(0, layers=1)
    model.generation_config.eos_token_id = None
    assert prepared(model).stopping(9).eos_ids == frozenset()


def test_greedy_without_processors_has_none_to_run():
    assert prepared(tiny.llava_model(0, layers=1)).chooser(None).processors is None


@pytest.mark.parametrize(
    ("shipped", "complaint"),
    [
        ({"num_beams": 4}, "beam"),
        ({"num_beams": 4, "do_sample": True}, "beam"),
        ({"do_sample": True, "num_return_sequences": 3}, "num_return_sequences must be 1, not 3"),
        ({"num_return_sequences": 3}, "num_return_sequences"),
        ({"guidance_scale": 1.5}, "UnbatchedClassifierFreeGuidanceLogitsProcessor keeps a memory of its own"),
        ({"penalty_alpha": 0.6, "top_k": 4}, "contrastive"),
        ({"prompt_lookup_num_tokens": 3}, "assisted"),
        ({"dola_layers": "high"}, "dola"),
    ],
    ids=str,
)
def test_ways_to_decode_that_a_tree_cannot_follow_are_refused_in_one_line(shipped, complaint):
    model = tiny.llava_model(0, layers=1)
    for name, value in shipped.items():
        setattr(model.generation_config, name, value)
    with pytest.raises(OptionError, match=complaint) as caught:
        prepared(model).chooser(None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("shipped", "asked", "right"),
    [
        ({}, {}, MOST_NEW_TOKENS),
        ({"max_new_tokens": 40}, {}, 40),
        ({"max_length": 50}, {}, 46),
        ({"max_new_tokens": 40, "max_length": 50}, {}, 40),
        ({"max_new_tokens": 40, "max_length": 3}, {"max_new_tokens": 7}, 7),
        ({"max_length": 50}, {"max_new_tokens": 0}, 0),
    ],
    ids=str,
)
def test_an_answer_is_as_long_as_was_asked_or_as_the_checkpoint_says(shipped, asked, right):
    model = tiny.llava_model(0, layers=1)
    for name, value in shipped.items():
        setattr(model.generation_config, name, value)
    family, options = tiny.family(model), Options(**asked)
    assert with_length(family, len(IDS), options) == Options(max_new_tokens=right)
    assert prepare_generation(family, IDS, options).config.max_length == len(IDS) + max(1, right)


def test_a_prompt_that_is_too_long_for_the_checkpoint_s_own_length_is_refused():
    model = tiny.llava_model(0, layers=1)
    model.generation_config.max_length = 4
    with pytest.raises(OptionError, match=r"max_length=4, which a prompt of 4 tokens fills: give max_new_tokens"):
        prepared(model)


@pytest.mark.parametrize("shipped", [{"max_new_tokens": 5}, {"max_length": 60}], ids=str)
def test_answers_and_their_oracle_end_where_stock_ends_by_itself(shipped):
    model = tiny.llava_model(0, layers=1)
    for name, value in shipped.items():
        setattr(model.generation_config, name, value)
    vlm, film, options = tiny.pair(model, None), tiny.film(4, 0), Options()
    prompt = vlm.prepare(film, "what?", options, Stats())
    stock = model.generate(**prompt.model_inputs)[0, prompt.num_tokens :].tolist()
    assert 0 < len(stock) < MOST_NEW_TOKENS
    answers = vlm.generate(film, "what?"), vlm.autoregressive(film, "what?")
    assert [list(answer.token_ids) for answer in answers] == [stock, stock]
    assert {answer.finish_reason for answer in answers} == {"length"}


def test_no_forward_is_run_and_the_model_is_left_alone():
    model = tiny.llava_model(0, layers=1)
    before = model.generation_config.to_dict()
    handle = model.register_forward_pre_hook(lambda *_: pytest.fail("a forward was run"))
    prepared(model, do_sample=True, temperature=0.3, stop=("red",), max_new_tokens=0)
    handle.remove()
    assert model.generation_config.to_dict() == before
