"""Answers end where stock generate ends them, also in the middle of an accepted path."""

from __future__ import annotations

import copy

import pytest
import torch

import tiny
from parity.pairs import draft, pair, target

VIDEO = tiny.video(4, seed=1)
PERFECT = {"pruning_ratio": 0.0, "tree": "paper"}


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 4, 5, 6, 7, 8, 13])
def test_never_a_token_too_many(limit: int) -> None:
    vlm = pair("twin")
    answer = vlm.generate(VIDEO, "what happens?", max_new_tokens=limit, **PERFECT)
    full = vlm.autoregressive(VIDEO, "what happens?", max_new_tokens=20)
    assert answer.token_ids == full.token_ids[:limit]
    assert answer.finish_reason == "length"
    # No draft forward is spent on what can't be emitted any more.
    assert answer.stats.num_rounds <= max(0, limit - 1)
    if limit <= 2:
        assert answer.stats.num_drafted == 0


@pytest.mark.parametrize("index", range(8))
@pytest.mark.parametrize("name", ["twin", "rough"])
def test_the_end_token_wherever_it_falls(same, index: int, name: str) -> None:
    """First token, bonus, or inside an accepted path: nothing comes after it."""
    tokens = pair("twin").autoregressive(VIDEO, "what happens?", max_new_tokens=20).token_ids
    ending = copy.deepcopy(target())
    ending.generation_config.eos_token_id = [tokens[index], 3]
    vlm = tiny.llava_pair(ending, draft(name))
    answer = same(vlm, VIDEO, max_new_tokens=20, **PERFECT)
    assert answer.finish_reason == "eos"
    assert answer.token_ids == tokens[: tokens.index(tokens[index]) + 1]


@pytest.mark.parametrize("sampled", [{}, {"do_sample": True, "seed": 4, "temperature": 0.4}])
@pytest.mark.parametrize("start", [0, 2, 3, 7, 12])
def test_stop_strings_wherever_they_fall(same, start: int, sampled: dict) -> None:
    text = pair("twin").autoregressive(VIDEO, "what happens?", max_new_tokens=24, **sampled).text
    word = next(
        part for part in (text[i : i + 2] for i in range(start, len(text))) if part.isascii() and len(part) == 2
    )
    answer = same(pair("twin"), VIDEO, stop=(word, "never said"), max_new_tokens=24, **sampled, **PERFECT)
    assert answer.finish_reason == "stop"
    assert word in answer.text


def test_an_answer_longer_than_its_cache(same, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caches are made too small on purpose, and grow."""
    monkeypatch.setattr("specvlm.answering.request.MAX_PREALLOCATED_TOKENS", 4)
    answer = same(pair("close"), VIDEO, max_new_tokens=300, **PERFECT)
    assert len(answer.token_ids) == 300


@pytest.mark.parametrize(("mine", "theirs"), [(320, 352), (352, 320)])
def test_padded_vocabularies(same, mine: int, theirs: int) -> None:
    """A draft may know ids that the target doesn't have, and the other way round; neither is proposed or crashes."""
    vlm = tiny.llava_pair(tiny.llava_model(0, vocabulary=mine), tiny.llava_model(1, vocabulary=theirs))
    same(vlm, VIDEO, max_new_tokens=24)


def test_a_prompt_that_ends_with_the_video() -> None:
    """No text after the video: attention is recorded for the prompt's last token instead."""
    from specvlm import custom_generate

    model = target()
    inputs = dict(pair("twin").target.prepare([VIDEO], "x").model_inputs)
    end = int((inputs["input_ids"][0] == model.config.video_token_id).nonzero()[-1]) + 1
    inputs["input_ids"], inputs["attention_mask"] = inputs["input_ids"][:, :end], inputs["attention_mask"][:, :end]
    right = model.generate(**inputs, max_new_tokens=16)
    ours = model.generate(
        **inputs, max_new_tokens=16, custom_generate=custom_generate, draft_model=draft("close"), pruning_ratio=0.5
    )
    assert torch.equal(ours, right)


@pytest.mark.parametrize("tree", ["chain", [[0]], [[3]]])
def test_a_tree_of_one_level(same, tree: object) -> None:
    same(pair("close"), VIDEO, tree=tree, depth=1, max_new_tokens=16)
