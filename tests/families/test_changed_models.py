"""A model that its owner changes while a pair or a watched video knows it: what was made of it is not used any more."""

from __future__ import annotations

from typing import Any

import peft
import pytest
import torch

import tiny
from specvlm import SpecVLM

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")

ASKED: dict[str, Any] = {"max_new_tokens": 16, "do_sample": False, "pruning_ratio": 0.5}
QUESTIONS = ("what happens?", "what does the ball do?")


def adapted(model: Any) -> peft.PeftModel:
    torch.manual_seed(0)
    config = peft.LoraConfig(target_modules=["q_proj", "down_proj"], r=4, lora_alpha=32, init_lora_weights=False)
    return peft.get_peft_model(model, config).eval()


def freshly(vlm: SpecVLM, question: str) -> tuple[int, ...]:
    return vlm.autoregressive(tiny.film(6, 1), question, **ASKED).token_ids


@pytest.mark.part(3)
@pytest.mark.parametrize("family", tiny.BUILDERS)
@pytest.mark.parametrize("drafts", ["model", "self"])
def test_a_watched_video_is_read_again_by_a_target_that_was_changed(family, drafts):
    target = tiny.model(family, 0, layers=2)
    vlm = tiny.pair(target, "self" if drafts == "self" else tiny.noised(target, 0.01))
    watched = vlm.watch(tiny.film(6, 1), **ASKED)

    def ask() -> list[tuple[int, ...]]:
        """The second question goes on from what the first one left: that much is still known."""
        answers = [watched.ask(question) for question in QUESTIONS]
        assert [answer.token_ids for answer in answers] == [freshly(vlm, question) for question in QUESTIONS]
        assert answers[1].stats.phases.get("vision_target", 0.0) == 0.0
        return [answer.token_ids for answer in answers]

    before = ask()
    model = adapted(target)
    with_adapter = ask()
    assert with_adapter != before
    with model.disable_adapter():
        assert ask() == before
    model.merge_adapter()
    ask()
    model.unmerge_adapter()
    model.unload()
    with torch.no_grad():
        target.lm_head.weight.copy_(target.lm_head.weight.roll(1, dims=0))
    assert ask() != before


def test_pixels_stay_known_when_the_target_changes(monkeypatch):
    target = tiny.llava_model(0, layers=2)
    vlm = tiny.pair(target, None)
    watched = vlm.watch(tiny.film(6, 1), max_new_tokens=16)
    watched.ask(QUESTIONS[0])
    adapted(target)
    monkeypatch.setattr(type(vlm), "prepare", lambda *_: pytest.fail("the video was decoded again"))
    assert watched.ask(QUESTIONS[1]).stats.num_tokens > 0


def test_a_draft_whose_tower_was_changed_looks_again():
    """It doesn't change the answer, but guesses from what another tower saw come true less often."""
    target = tiny.llava_model(0, layers=2)
    draft = tiny.noised(target, 0.002)
    wrong = tiny.llava_model(3, layers=2)
    right = {name: weight.clone() for name, weight in draft.model.vision_tower.state_dict().items()}
    draft.model.vision_tower.load_state_dict(wrong.model.vision_tower.state_dict())
    vlm = tiny.pair(target, draft)
    asked = ASKED | {"pruning_ratio": 0.0, "max_new_tokens": 40}
    watched = vlm.watch(tiny.film(6, 1), **asked)
    watched.ask(QUESTIONS[0])
    draft.model.vision_tower.load_state_dict(right)
    again = watched.ask(QUESTIONS[0])
    fresh = vlm.generate(tiny.film(6, 1), QUESTIONS[0], **asked)
    assert again.token_ids == fresh.token_ids
    assert again.stats.num_accepted == fresh.stats.num_accepted > 0
    assert again.stats.num_rounds == fresh.stats.num_rounds
