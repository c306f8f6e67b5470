"""A draft that can't take part in an answer is refused before anybody has read a piece of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from transformers import PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import AttentionInterface

import tiny
from specvlm.errors import ModelError

FILM, QUESTION = tiny.film(5, 1), "what happens?"
ASKED = {"plan": "fixed", "tree": "paper", "pruning_ratio": 0.5, "max_new_tokens": 16}


def narrowed(draft: PreTrainedModel) -> None:
    config = draft.config.text_config
    config.layer_types, config.sliding_window = ["sliding_attention"] * config.num_hidden_layers, 40


def foreign(draft: PreTrainedModel) -> None:
    draft.set_attn_implementation("mine")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (narrowed, r"tiny draft attends through a sliding window of 40 positions .* needs \d+: give fewer frames"),
        (foreign, "tiny draft attends with mine which isn't transformers' own"),
    ],
)
def test_it_is_refused_before_the_first_piece(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[PreTrainedModel], None], reason: str
) -> None:
    monkeypatch.setitem(AttentionInterface._global_mapping, "mine", sdpa_attention_forward)
    target, draft = tiny.llava_model(0), tiny.llava_model(1)
    if change is narrowed:
        change(draft)
    vlm = tiny.pair(target, draft)
    if change is foreign:
        change(draft)
    pieces: list[Any] = []
    with pytest.raises(ModelError, match=reason) as caught:
        pieces.extend(vlm.stream(FILM, QUESTION, **ASKED))
    assert pieces == []
    assert "\n" not in str(caught.value)


def test_an_answer_for_which_it_has_room_takes_it() -> None:
    """The window is of what the draft reads: the pruned prompt, not the target's."""
    target = tiny.llava_model(0)
    narrowed(draft := tiny.noised(target, 0.02))
    draft.config.text_config.sliding_window = 75
    vlm = tiny.pair(target, draft)
    with pytest.raises(ModelError, match=r"needs 7[6-9]|needs [89]"):
        vlm.generate(FILM, QUESTION, **ASKED | {"pruning_ratio": 0.0})
    answer = vlm.generate(FILM, QUESTION, **ASKED | {"pruning_ratio": 0.9})
    assert answer.token_ids == vlm.autoregressive(FILM, QUESTION, max_new_tokens=16).token_ids
    assert answer.stats.num_accepted > 0
