"""Answers of the families of a file each end where stock generate ends them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

import tiny
from parity.pairs import draft, pair, target

FILM = tiny.film(4, 1)
PERFECT: dict[str, Any] = {"pruning_ratio": 0.0, "tree": "paper"}
every_family = pytest.mark.parametrize("family", tiny.MORE)


@every_family
def test_never_a_token_too_many(family: str) -> None:
    vlm = pair("twin", family=family)
    full = vlm.autoregressive(FILM, "what happens?", max_new_tokens=20)
    for limit in (0, 1, 2, 6, 13):
        answer = vlm.generate(FILM, "what happens?", max_new_tokens=limit, **PERFECT)
        assert answer.token_ids == full.token_ids[:limit]
        assert answer.finish_reason == "length"
        assert answer.stats.num_rounds <= max(0, limit - 1)


@pytest.mark.parametrize(
    "name", ["twin", *(pytest.param(name, marks=pytest.mark.parity) for name in ("self", "rough"))]
)
@every_family
def test_the_end_token_wherever_it_falls(same, family: str, name: str) -> None:
    """First token, bonus, or inside an accepted path: nothing comes after it."""
    tokens = pair("twin", family=family).autoregressive(FILM, "what happens?", max_new_tokens=20).token_ids
    for index in (0, 2, 4, 7):
        ending = copy.deepcopy(target(family=family))
        ending.generation_config.eos_token_id = [tokens[index], min(set(range(tiny.VOCABULARY)) - set(tokens))]
        guess = "self" if name == "self" else draft(name, family=family)
        answer = same(tiny.pair(ending, guess), FILM, max_new_tokens=20, **PERFECT)
        assert answer.finish_reason == "eos"
        assert answer.token_ids == tokens[: tokens.index(tokens[index]) + 1]
        if name != "rough" and len(answer.token_ids) > 3:
            assert answer.stats.num_accepted > 0


@pytest.mark.parity
@pytest.mark.parametrize("sampled", [{}, {"do_sample": True, "seed": 5, "temperature": 0.4}], ids=["greedy", "sampled"])
@every_family
def test_stop_strings_wherever_they_fall(same, family: str, sampled: dict) -> None:
    vlm = pair("twin", family=family)
    full = vlm.autoregressive(FILM, "what happens?", max_new_tokens=24, **sampled)
    text = vlm.target.tokenizer.decode(full.token_ids)  # with what a text leaves out, which no string to stop at skips
    words = [part for part in (text[i : i + 2] for i in range(len(text))) if part.isascii() and len(part) == 2]
    for word in (words[0], words[len(words) // 2], words[-1]):
        answer = same(vlm, FILM, stop=(word, "never said"), max_new_tokens=24, **sampled, **PERFECT)
        assert answer.finish_reason == "stop"
        assert len(answer.token_ids) <= len(full.token_ids)


@pytest.mark.parity
@pytest.mark.parametrize(("mine", "theirs"), [(320, 352), (384, 352)])
@every_family
def test_padded_vocabularies(same, family: str, mine: int, theirs: int) -> None:
    goal, guess = tiny.model(family, 0, vocabulary=mine), tiny.model(family, 0, vocabulary=theirs)
    with torch.no_grad():
        guess.lm_head.weight[tiny.VOCABULARY :] *= 30
    for decoding in ({}, {"do_sample": True, "seed": 2, "temperature": 2.0}):
        same(tiny.pair(goal, guess), FILM, max_new_tokens=24, **decoding)


@pytest.mark.parity
@every_family
def test_an_answer_longer_than_its_cache(same, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specvlm.answering.request.MAX_PREALLOCATED_TOKENS", 4)
    for name in ("close", "self"):
        assert len(same(pair(name, family=family), FILM, max_new_tokens=80, **PERFECT).token_ids) > 25
