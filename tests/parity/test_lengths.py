"""Rotary frequencies that a forward's length decides about: stock generate's tokens, or a refusal that says why.

A guess lengthens the forward that it is verified in. Where that carries it over the length at which frequencies change,
the keys of all its tokens would be turned otherwise than stock `generate` turns them.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

import specvlm
import tiny
from parity.conftest import Same
from specvlm.errors import ModelError
from specvlm.families.decoder import HFDecoder
from specvlm.pipeline import SpecVLM

FAMILIES = ("llava_onevision", "qwen2_5_vl", "qwen3_vl")
CHANGING = ("dynamic", "longrope")
SETTLED = {
    "default": {},
    "linear": {"factor": 4.0},
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 32},
    "llama3": {
        "factor": 4.0, "original_max_position_embeddings": 32, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    },
}  # fmt: skip
FILM, QUESTION = tiny.film(6, 3), "what happens?"
ROOM = 12
"""Tokens that an answer may have before frequencies would change."""


def turned(family: str, kind: str, length: int, **more: Any) -> PreTrainedModel:
    """The tiny model of a family, with the weights that it always has and other frequencies."""
    stock = tiny.model(family, 0)
    config = stock.config
    half = config.text_config.hidden_size // config.text_config.num_attention_heads // 2
    if family.startswith("qwen3"):
        half = config.text_config.head_dim // 2
    if kind == "dynamic":
        more = {"factor": 8.0}
    if kind == "longrope":
        more = {"short_factor": [1.0] * half, "long_factor": [3.0] * half, "factor": 4.0}
        more["original_max_position_embeddings"] = length
    config.text_config.rope_parameters = {**(config.text_config.rope_parameters or {}), "rope_type": kind, **more}
    config.text_config.max_position_embeddings = length
    model = type(stock)(config).eval()
    model.load_state_dict(stock.state_dict())
    model.generation_config = stock.generation_config
    return model


def end_of_prompt(family: str) -> int:
    prompt = tiny.family(tiny.model(family, 0)).prepare([FILM], QUESTION)
    assert prompt.next_position == int(prompt.position_ids.max()) + 1
    return prompt.next_position


def length_for(family: str, kind: str) -> int:
    """Of frequencies that last for a prompt and ROOM tokens. At the length itself dynamic ones may be stale."""
    return end_of_prompt(family) + ROOM - 1 + (kind == "dynamic")


def short(family: str, kind: str, draft: Any = "close") -> SpecVLM:
    target = turned(family, kind, length_for(family, kind))
    return tiny.pair(target, tiny.noised(target, 0.02) if draft == "close" else draft)


@pytest.mark.parametrize("draft", ["close", None])
@pytest.mark.parametrize("kind", CHANGING)
@pytest.mark.parametrize("family", FAMILIES)
def test_an_answer_that_reaches_the_length_is_stocks_and_a_longer_one_is_refused(family, kind, draft, same: Same):
    vlm = short(family, kind, draft)
    answer = same(vlm, FILM, pruning_ratio=0.5, tree="paper", max_new_tokens=ROOM)
    assert len(answer.token_ids) == ROOM
    assert draft is None or answer.stats.num_accepted > 0
    with pytest.raises(ModelError, match=rf"{kind} rotary frequencies, which change beyond \d+ .* max_new_tokens"):
        vlm.generate(FILM, QUESTION, max_new_tokens=ROOM + 1)


@pytest.mark.part(2)
@pytest.mark.parametrize(("family", "kind"), [("llava_onevision", "longrope"), ("qwen2_5_vl", "dynamic")])
def test_without_the_refusal_answers_would_differ(monkeypatch, family, kind):
    monkeypatch.setattr(HFDecoder, "refuse_beyond", lambda self, needed: None, raising=False)
    differ = 0
    for seed in range(3):
        film = tiny.film(6, seed)
        vlm = tiny.pair(turned(family, kind, length_for(family, kind)), None)
        right = vlm.autoregressive(film, QUESTION, max_new_tokens=4 * ROOM)
        target = turned(family, kind, length_for(family, kind))  # as found: stock generate leaves something behind
        ours = tiny.pair(target, tiny.noised(target, 0.0)).generate(
            film, QUESTION, tree="paper", max_new_tokens=4 * ROOM, pruning_ratio=0.0
        )
        differ += ours.token_ids != right.token_ids
    assert differ > 0


@pytest.mark.parametrize("kind", CHANGING)
def test_a_prompt_that_is_too_long_is_refused_however_it_is_read(kind):
    target = turned("qwen2_5_vl", kind, end_of_prompt("qwen2_5_vl") - 3)
    for vlm in (tiny.pair(target, None), tiny.pair(target, "self")):
        for options in ({}, {"prefill_chunk": 5}, {"strict": True}, {"plan": "auto"}):
            with pytest.raises(ModelError, match=f"{kind} rotary frequencies"):
                vlm.generate(FILM, QUESTION, max_new_tokens=1, **options)


@pytest.mark.parametrize("kind", CHANGING)
def test_a_watched_video_has_one_set_of_frequencies(kind, same: Same):
    """A cache that a short prompt left is of no use to one that has other frequencies."""
    vlm = short("llava_onevision", kind)
    watched = vlm.watch(FILM, max_new_tokens=ROOM)
    for question in (QUESTION, "what?", QUESTION):
        assert watched.ask(question).token_ids == same(vlm, FILM, question, max_new_tokens=ROOM).token_ids
    with pytest.raises(ModelError, match=f"{kind} rotary frequencies"):
        watched.ask("what happens in this film, and why, and when, and where, and to whom? " * 3)
    assert watched.ask("what?").token_ids == same(vlm, FILM, "what?", max_new_tokens=ROOM).token_ids


@pytest.mark.parametrize("kind", CHANGING)
def test_a_longer_answer_of_stock_generate_before_does_no_harm(kind, same: Same):
    """It leaves the frequencies of its own length on the model."""
    vlm = short("llava_onevision", kind)
    vlm.autoregressive(FILM, QUESTION, max_new_tokens=5 * ROOM)
    assert same(vlm, FILM, tree="paper", max_new_tokens=ROOM).stats.num_accepted > 0


@pytest.mark.parametrize("kind", CHANGING)
def test_the_drop_in_refuses_too(kind):
    target = turned("llava_onevision", kind, length_for("llava_onevision", kind))
    inputs = tiny.family(target).prepare([FILM], QUESTION).model_inputs
    ours = {"custom_generate": specvlm.custom_generate, "draft_model": "self", "do_sample": False}
    right = target.generate(**inputs, max_new_tokens=ROOM, do_sample=False)
    assert torch.equal(target.generate(**inputs, **ours, max_new_tokens=ROOM), right)
    with pytest.raises(ModelError, match=f"{kind} rotary frequencies"):
        target.generate(**inputs, **ours, max_new_tokens=ROOM + 1)


@pytest.mark.filterwarnings("ignore::specvlm.LengthWarning")  # the prompt is longer than what is stretched, on purpose
@pytest.mark.parametrize("kind", SETTLED)
@pytest.mark.parametrize("family", FAMILIES[:2])
def test_frequencies_that_stay_what_they_are_have_no_length(family, kind, same: Same):
    vlm = tiny.pair(target := turned(family, kind, 32, **SETTLED[kind]), tiny.noised(target, 0.02))
    assert same(vlm, FILM, tree="paper", max_new_tokens=31).stats.num_accepted > 0


@pytest.mark.parametrize(("family", "kind"), [("llava_onevision", "longrope"), ("qwen3_vl", "dynamic")])
def test_a_draft_may_change_its_frequencies(family, kind, same: Same):
    """It can only guess worse."""
    vlm = tiny.pair(tiny.model(family, 0), turned(family, kind, 20))
    same(vlm, FILM, max_new_tokens=31)


@pytest.mark.parametrize("kind", CHANGING)
def test_positions_count_and_not_tokens(kind, same: Same):
    """With M-RoPE a frame of many tokens takes few positions."""
    end = end_of_prompt("qwen2_5_vl")
    assert tiny.family(tiny.model("qwen2_5_vl", 0)).prepare([FILM], QUESTION).num_tokens > end + ROOM
    same(short("qwen2_5_vl", kind), FILM, max_new_tokens=ROOM)


def test_what_a_machine_takes_is_measured_without_a_trace(monkeypatch):
    """Forwards behind thousands of tokens would leave the frequencies of that length on the model."""
    from specvlm.planning.measuring import measure

    target = turned("llava_onevision", "dynamic", 64)
    rotary = target.model.language_model.rotary_emb
    before = rotary.inv_freq.clone()
    measure(tiny.family(target).decoder, rows=(1, 8), lengths=(16, 128))
    assert rotary.max_seq_len_cached == 64
    assert torch.equal(rotary.inv_freq, before)
