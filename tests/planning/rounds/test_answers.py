"""Planned answers by rounds on the device: stock generate's, whatever the draft is worth and whatever is chosen."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

import tiny
from engine.rounds.again import run_again
from planning.rounds.told import costs as told_costs
from planning.worlds import machine
from specvlm.answering import pair as pairs
from specvlm.answering.answer import Generation
from specvlm.answering.stage import Stage
from specvlm.engine.rounds.arena import Arena
from specvlm.engine.rounds.report import Report, RoundPlan
from specvlm.engine.tree import DynamicTree
from specvlm.families import Family
from specvlm.families.device_decoder import HFDeviceDecoder
from specvlm.pipeline import SpecVLM
from specvlm.planning import measuring
from specvlm.planning.rounds.costs import ENVELOPES
from specvlm.planning.rounds.planner import DevicePlanner

FAMILIES = ("llava_onevision", "qwen2_5_vl")
SAMPLED = {"do_sample": True, "temperature": 0.3, "seed": 3}


@pytest.fixture
def draft_forward() -> float:
    return 0.02


@pytest.fixture(autouse=True)
def machine_on_paper(draft_forward: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Costs that no clock disturbs."""
    monkeypatch.setattr(measuring, "pair_costs", lambda target, draft: machine(0.02))
    monkeypatch.setattr(pairs.round_measuring, "round_costs", lambda *_, **__: told_costs(draft_forward))


def vlm(family: str, noise: float | None) -> SpecVLM:
    """With a draft that is off by so much, or that says the least likely thing."""
    target = tiny.model(family, dtype=torch.float64)
    draft = tiny.noised(target, noise or 0.0)
    if noise is None:
        with torch.no_grad():
            draft.lm_head.weight.neg_()
    return tiny.pair(target, draft)


def planned(of: SpecVLM, **how: Any) -> Generation:
    return of.generate(
        tiny.video(6), "what happens?", **{"plan": "auto", "rounds": "device", "max_new_tokens": 40} | how
    )


def stock(of: SpecVLM, **how: Any) -> list[int]:
    return of.autoregressive(tiny.video(6), "what happens?", **{"max_new_tokens": 40} | how).token_ids


def depths(answer: Generation) -> list[int]:
    """Of the rounds' trees; 0: a round without guesses."""
    return [each.num_draft_forwards for each in answer.stats.rounds]


@pytest.mark.part(2)
@pytest.mark.parametrize("sampled", [False, True], ids=["greedy", "sampled"])
@pytest.mark.parametrize("family", FAMILIES)
def test_answers_are_stock_generates_and_several_envelopes_are_tried(family: str, sampled: bool):
    of, how = vlm(family, 0.001), SAMPLED if sampled else {}
    right, tried, accepted = stock(of, **how), set[int](), 0
    for _ in range(4):
        answer = planned(of, pruning_ratio=0.0, **how)
        assert answer.token_ids == right
        assert answer.stats.on_host_because is None
        tried |= set(depths(answer))
        accepted += answer.stats.num_accepted
    assert accepted > 20
    assert len(tried - {0}) >= 3


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("draft_forward", [0.3])
def test_a_hostile_draft_is_given_up_and_changes_nothing(family: str):
    of = vlm(family, None)
    right = stock(of, max_new_tokens=64)
    first, later = (planned(of, max_new_tokens=64) for _ in range(2))
    assert first.token_ids == later.token_ids == right
    assert first.stats.num_accepted == 0
    assert 1 <= sum(map(bool, depths(first))) <= 3
    assert sum(map(bool, depths(later))) <= 1


@pytest.mark.parametrize("draft_forward", [1.5])
def test_a_draft_that_can_not_pay_reads_nothing():
    of = vlm("llava_onevision", 0.0)
    answer = planned(of)
    assert answer.token_ids == stock(of)
    assert answer.stats.num_drafted == 0
    assert "prefill_draft" not in answer.stats.phases


def test_what_is_learnt_goes_from_one_answer_to_the_next():
    of = vlm("llava_onevision", 0.0)
    first, second = (planned(of, pruning_ratio=0.0) for _ in range(2))
    assert depths(first)[0] == 2
    assert depths(second)[0] > 2
    assert second.stats.num_rounds < first.stats.num_rounds


def test_questions_about_a_watched_video_are_planned_alike():
    of = vlm("llava_onevision", 0.0)
    how = {"plan": "auto", "rounds": "device", "pruning_ratio": 0.0, "max_new_tokens": 24}
    watched = of.watch(tiny.video(6), **how)
    for question in ("what happens?", "what is red?", "what happens?"):
        answer = watched.ask(question)
        assert answer.token_ids == of.autoregressive(tiny.video(6), question, max_new_tokens=24).token_ids
        assert answer.stats.on_host_because is None
        assert answer.stats.num_accepted > 5


def test_greedy_and_sampled_answers_and_host_and_device_have_a_planner_each():
    of = vlm("llava_onevision", 0.0)
    for rounds in ("device", "host"):
        for how in ({}, SAMPLED):
            planned(of, rounds=rounds, **how)
    planners = list(of.pair.planners.values())
    assert [isinstance(each, DevicePlanner) for each in planners].count(True) == 2
    assert len(planners) == len({id(each.experience) for each in planners}) == 4


@pytest.mark.parametrize("how", [{"strict": True}, {"stop": ("zebra",)}], ids=["strict", "stop"])
def test_what_only_the_host_can_do_is_planned_for_the_host(how: dict[str, Any]):
    of = vlm("llava_onevision", 0.0)
    answer = planned(of, **how)
    assert answer.token_ids == stock(of, **{name: value for name, value in how.items() if name != "strict"})
    assert answer.stats.on_host_because is not None
    assert answer.stats.num_accepted > 5


@pytest.mark.parametrize("family", FAMILIES)
def test_each_envelope_that_comes_again_is_captured(family: str):
    of = vlm(family, 0.001)
    draft = of.draft
    assert isinstance(draft, Family)
    sides = HFDeviceDecoder(of.target.decoder), HFDeviceDecoder(draft.decoder)
    arena = Arena(*sides, run_again)
    of.pair._stages.append(Stage(arena, (sides[0].buffers(2), sides[1].buffers(2)), None))
    right, played = stock(of), Counter[int]()
    for _ in range(4):
        answer = planned(of, pruning_ratio=0.0)
        assert answer.token_ids == right
        played.update(depths(answer))
    (table,) = arena._tables
    again = [shape for shape in table.rounds if isinstance(shape, DynamicTree) and table.captured(shape)]
    assert len(again) >= 3
    assert {shape.depth for shape in again} >= {
        depth for depth, count in played.items() if depth in (2, 4) and count > 1
    }
    assert set(table.rounds) <= set(ENVELOPES)


class Alternating(RoundPlan):
    """So many rounds without guesses, then one with some; and so on."""

    def __init__(self, num_bare: int) -> None:
        self._num_bare, self.asked, self.reports = num_bare, list[int](), list[Report]()

    @property
    def max_nodes(self) -> int:
        return 13

    def cut(self, max_depth: int) -> RoundPlan:
        return self

    def choose(self, max_depth: int, num_unread: int) -> DynamicTree | None:
        self.asked.append(num_unread)
        return None if len(self.asked) % (self._num_bare + 1) else DynamicTree(min(3, max_depth), 1, 3)

    def learn(self, report: Report) -> None:
        self.reports.append(report)


@pytest.mark.parametrize("num_bare", [1, 2, 5])
@pytest.mark.parametrize("family", FAMILIES)
def test_rounds_without_guesses_may_come_in_between(family: str, num_bare: int):
    """What they leave unread the draft reads before it guesses again: it has the target's weights and sees all, so that
    all of its guesses are right."""
    of, plan = vlm(family, 0.0), Alternating(num_bare)
    answer = planned(of, plan="fixed", tree=plan, pruning_ratio=0.0)
    assert answer.token_ids == stock(of)
    assert max(plan.asked) >= num_bare
    assert len(plan.reports) >= 3
    assert all(len(each.path) == 1 + each.num_draft_forwards for each in plan.reports[:-1])


def test_caches_have_room_for_every_envelope():
    from specvlm.planning.prices import MAX_NODES

    assert max(each.max_nodes for each in ENVELOPES) <= 1 + MAX_NODES
