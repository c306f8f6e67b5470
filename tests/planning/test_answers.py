"""Planned answers of the pocket pairs are those of stock generate, whatever the draft is worth."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pytest
import torch

import specvlm
from planning.worlds import machine
from specvlm import pocket
from specvlm.answering.answer import Generation
from specvlm.answering.pair import Draft
from specvlm.families import Family
from specvlm.pipeline import SpecVLM
from specvlm.planning import measuring
from specvlm.planning.costs import PairCosts
from specvlm.planning.planner import Planner
from specvlm.video import Video

QUESTION = "Describe the video in detail."
SAMPLED = {"do_sample": True, "temperature": 1.5, "seed": 3}


@pytest.fixture(autouse=True)
def cheap_drafts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Costs that no clock disturbs, not even by what answers take on a busy machine: a tenth of the target's, though
    the target may draft for itself."""

    def pair_costs(target: Family, draft: Draft) -> PairCosts:
        return replace(machine(0.1), draft_reads=draft != "self")

    monkeypatch.setattr(measuring, "pair_costs", pair_costs)
    monkeypatch.setattr(Planner, "_time", lambda self, stats, measured: None)


@pytest.fixture(params=pocket.FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@lru_cache
def loaded(family: str) -> SpecVLM:
    return specvlm.load(pocket.path(family, "target"), pocket.path(family, "draft"), dtype="float32")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pocket.demo_video(tmp_path_factory.mktemp("film") / "held_out.mp4")


@lru_cache
def seen(family: str, film: Path) -> Video:
    return loaded(family).load_video(film, num_frames=8)


@lru_cache
def stock(family: str, film: Path, sampled: bool) -> Generation:
    return loaded(family).autoregressive(seen(family, film), QUESTION, max_new_tokens=40, **SAMPLED if sampled else {})


def planned(vlm: SpecVLM, family: str, film: Path, sampled: bool) -> Generation:
    how = SAMPLED if sampled else {}
    return vlm.generate(seen(family, film), QUESTION, plan="auto", max_new_tokens=40, **how)


@pytest.mark.part(3)
@pytest.mark.parametrize("sampled", [False, True], ids=["greedy", "sampled"])
@pytest.mark.parametrize("draft", ["model", "self"])
def test_an_answer_is_that_of_stock_generate_and_drafts_were_accepted(draft, sampled, family, film):
    pair = loaded(family)
    vlm = SpecVLM(pair.target, "self" if draft == "self" else pair.draft)
    right, kept = stock(family, film, sampled), []
    for _ in range(3):  # the first is told by a plan that knows nothing
        answer = planned(vlm, family, film, sampled)
        assert (answer.token_ids, answer.text) == (right.token_ids, right.text)
        assert answer.stats.num_accepted > 5
        kept.append(answer.stats.num_kept)
    assert kept[0] == round(0.1 * answer.stats.num_video_tokens)


@pytest.mark.part(2)
@pytest.mark.parametrize("sampled", [False, True], ids=["greedy", "sampled"])
def test_a_hostile_draft_is_given_up_and_changes_nothing(sampled, family, film):
    """As sure of itself as ever, and always one token beside it."""
    pair = loaded(family)
    assert not isinstance(pair.draft, str)
    assert pair.draft is not None
    model = copy.deepcopy(pair.draft.model)
    with torch.no_grad():
        head = model.lm_head.weight
        model.lm_head.weight = torch.nn.Parameter(head.roll(1, 0).clone())
    vlm, right = specvlm.load(pair.target.model, model, processor=pair.target.processor), stock(family, film, sampled)
    first, later = (planned(vlm, family, film, sampled) for _ in range(2))
    assert first.token_ids == later.token_ids == right.token_ids
    assert first.stats.num_drafted > 0
    assert first.stats.num_accepted < 0.2 * first.stats.num_drafted
    # What is in the purse at first, and a hundredth of the time: at a tenth of the target's cost a dozen.
    assert first.stats.num_draft_forwards <= 16
    assert later.stats.num_draft_forwards <= 4  # to see whether it is better by now
