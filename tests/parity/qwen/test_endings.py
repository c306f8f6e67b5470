"""Answers of Qwen-VL pairs end where stock generate ends them, and no draft proposes an id that no tokenizer knows."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

import tiny
from parity.pairs import draft, every_family, pair, target
from specvlm.engine.drafting import ModelDrafter
from specvlm.engine.tree import DraftTree
from specvlm.pipeline import SpecVLM

FILM = tiny.film(4, 1)
MEDIA: dict[str, Any] = {"images": (tiny.image(2),)}
PERFECT = {"pruning_ratio": 0.0, "tree": "paper"}


def made(name: str, family: str, goal: Any) -> SpecVLM:
    return tiny.pair(goal, "self" if name == "self" else draft(name, family=family))


@pytest.mark.parametrize("name", ["twin", "self"])
@every_family
def test_never_a_token_too_many(family: str, name: str) -> None:
    vlm = pair(name, family=family)
    full = vlm.autoregressive(FILM, "what happens?", max_new_tokens=20, **MEDIA)
    for limit in (0, 1, 2, 3, 6, 7, 13):
        answer = vlm.generate(FILM, "what happens?", max_new_tokens=limit, **PERFECT, **MEDIA)
        assert answer.token_ids == full.token_ids[:limit]
        assert answer.finish_reason == "length"
        assert answer.stats.num_rounds <= max(0, limit - 1)
        assert (answer.stats.num_drafted > 0) == (limit > 2)


@pytest.mark.parametrize("name", ["twin", "self", "rough"])
@every_family
def test_the_end_token_wherever_it_falls(same, family: str, name: str) -> None:
    """First token, bonus, or inside an accepted path: nothing comes after it."""
    tokens = pair("twin", family=family).autoregressive(FILM, "what happens?", max_new_tokens=20, **MEDIA).token_ids
    unsaid = min(set(range(tiny.VOCABULARY)) - set(tokens))
    for index in (0, 1, 2, 4, 6, 7):
        ending = copy.deepcopy(target(family=family))
        ending.generation_config.eos_token_id = [tokens[index], unsaid]
        answer = same(made(name, family, ending), FILM, max_new_tokens=20, **PERFECT, **MEDIA)
        assert answer.finish_reason == "eos"
        assert answer.token_ids == tokens[: tokens.index(tokens[index]) + 1]
        if name != "rough" and index > 2:
            assert answer.stats.num_accepted > 0


@pytest.mark.parametrize("sampled", [{}, {"do_sample": True, "seed": 4, "temperature": 0.4}], ids=["greedy", "sampled"])
@every_family
def test_stop_strings_wherever_they_fall(same, family: str, sampled: dict) -> None:
    vlm = pair("twin", family=family)
    text = vlm.autoregressive(FILM, "what happens?", max_new_tokens=24, **sampled).text
    words = [part for part in (text[i : i + 2] for i in range(len(text))) if part.isascii() and len(part) == 2]
    for word in (words[0], words[len(words) // 2], words[-1]):
        answer = same(vlm, FILM, stop=(word, "never said"), max_new_tokens=24, **sampled, **PERFECT)
        assert answer.finish_reason == "stop"
        assert word in answer.text


@every_family
def test_an_answer_longer_than_its_cache(same, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caches are made too small on purpose, and grow: the borrowed one of a self-draft too."""
    monkeypatch.setattr("specvlm.answering.request.MAX_PREALLOCATED_TOKENS", 4)
    for name in ("close", "self"):
        answer = same(pair(name, family=family), FILM, max_new_tokens=80, **PERFECT)
        assert len(answer.token_ids) > 25


@pytest.mark.parametrize(("mine", "theirs"), [(320, 352), (352, 320), (384, 352)])
@every_family
def test_padded_vocabularies(same, family: str, mine: int, theirs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Published checkpoints of one family differ in them. This draft would say nothing but ids that only it has."""
    proposed: set[int] = set()
    propose = ModelDrafter.propose

    def listened(self: ModelDrafter, root: int, max_depth: int) -> DraftTree:
        tree = propose(self, root, max_depth)
        proposed.update(tree.tokens[1:])
        return tree

    monkeypatch.setattr(ModelDrafter, "propose", listened)
    goal, guess = tiny.model(family, 0, vocabulary=mine), tiny.model(family, 0, vocabulary=theirs)
    with torch.no_grad():
        guess.lm_head.weight[tiny.VOCABULARY :] *= 30
    answers = [
        same(tiny.pair(goal, guess), FILM, max_new_tokens=24, **decoding)
        for decoding in ({}, {"do_sample": True, "seed": 2, "temperature": 2.0})
    ]
    assert proposed
    assert max(proposed) < tiny.VOCABULARY
    if mine > tiny.VOCABULARY:  # a random target says them too, unlike a trained one, and the draft has to read them
        assert max(max(answer.token_ids) for answer in answers) >= tiny.VOCABULARY
