"""Is it worth it? Plans on machines whose clock is arithmetic: against fixed trees, and with the worst draft."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planning.worlds import DRAFT_PROMPT, PROMPT, Place, machine, plain_seconds, tell, texts
from specvlm.engine.tree import DynamicTree
from specvlm.planning.acceptance import Acceptance
from specvlm.planning.costs import PairCosts
from specvlm.planning.experience import MOST
from specvlm.planning.planner import Planner
from specvlm.planning.purse import Purse
from specvlm.planning.ratios import RATIOS

LENGTH = 97
NEW, USED = 3, 8
"""Answers by which a planner gets to know a pair, and all answers."""

FIXED = tuple(DynamicTree(depth, 4, nodes) for depth, nodes in [(1, 4), (2, 8), (3, 3), (4, 8), (6, 6), (8, 32)])
"""Trees of one shape for all rounds."""

GOOD, TOO_SURE, WORSE, HOSTILE = (1.0, 1.0), (0.7, 0.5), (0.5, 1.0), (0.0, 0.0)
"""How often the draft's best guess, and how often each other one, is right: times as often as it says."""


def answers(
    planner: Planner, costs: PairCosts, told: Sequence[Sequence[Place]], seen: int = DRAFT_PROMPT
) -> list[float]:
    """Seconds of one answer after the other, each with a draft or without, as the planner says. With a draft, the time
    to read its prompt is part of it."""
    seconds = []
    for places in told:
        drafts = planner.drafts(PROMPT, seen, 256)
        stats = tell(places, costs, planner.shape if drafts else None)
        planner.learn(0.9 if drafts else None, len(places), stats)
        seconds.append(stats.decode_seconds + drafts * costs.reading(seen))
    return seconds


def against_fixed(draft: tuple[float, float], costs: PairCosts) -> float:
    """How many times as fast a planner that knows the pair decodes as the best tree of one shape, or none."""
    told = texts(USED, LENGTH, *draft)
    mine = sum(answers(Planner(costs), costs, told)[NEW:]) - (USED - NEW) * costs.reading(DRAFT_PROMPT)
    fixed = [sum(tell(each, costs, lambda *_: shape).decode_seconds for each in told[NEW:]) for shape in FIXED]  # noqa: B023
    return min((USED - NEW) * plain_seconds(costs, LENGTH), *fixed) / mine


@pytest.mark.part(3)
@pytest.mark.parametrize("per_row", [0.005, 0.02], ids="{} a row".format)
@pytest.mark.parametrize("draft_forward", [0.05, 0.2, 0.5], ids="draft of {}".format)
@pytest.mark.parametrize("draft", [GOOD, TOO_SURE, WORSE], ids=["good", "too sure", "worse"])
def test_no_fixed_tree_is_more_than_a_twentieth_faster(draft, draft_forward, per_row):
    assert against_fixed(draft, machine(draft_forward, per_row)) >= 0.95


@pytest.mark.parametrize(
    ("draft", "belief"),
    [
        (TOO_SURE, lambda self, confidences: [1.0 for _ in confidences]),
        (GOOD, lambda self, confidences: [each / 4 for each in confidences]),
    ],
    ids=["credulous", "sceptical"],
)
def test_a_plan_that_misjudges_guesses_would_be_noticed(
    draft: tuple[float, float], belief: Callable, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Acceptance, "of_guesses", belief)
    assert against_fixed(draft, machine(0.05, 0.02)) < 0.95


@pytest.mark.part(3)
@pytest.mark.parametrize("length", [32, 128, 512])
@pytest.mark.parametrize("draft_forward", [0.02, 0.1, 0.3, 0.8, 1.5], ids="draft of {}".format)
def test_a_hostile_draft_costs_three_hundredths_at_most(draft_forward, length):
    """From the first answer on where an answer has a usual length, its prompt's reading included; of short ones, the
    first is dearer."""
    costs = machine(draft_forward)
    seconds = answers(Planner(costs), costs, texts(12, length, *HOSTILE))
    plain = plain_seconds(costs, length)
    reading = costs.reading(DRAFT_PROMPT)
    assert seconds[0] - reading <= 1.02 * plain + 1.5
    assert seconds[0] <= 1.03 * plain + reading or length < 128
    assert sum(seconds[1:]) <= 1.03 * 11 * plain


def test_a_short_answer_keeps_no_draft_from_the_long_one_after_it(monkeypatch: pytest.MonkeyPatch):
    """It won nothing by the prompt that its draft had to read."""
    costs, told = machine(0.1), [*texts(1, 2, *GOOD), *texts(1, 128, *GOOD, seed=1)]
    assert answers(Planner(costs), costs, told)[1] < 0.6 * plain_seconds(costs, 128)
    monkeypatch.setattr("specvlm.planning.deciding.DEBT", 0.0)
    assert answers(Planner(costs), costs, told)[1] > 0.99 * plain_seconds(costs, 128)


def test_without_a_purse_it_would_cost_more(monkeypatch: pytest.MonkeyPatch):
    costs = machine(0.3)
    monkeypatch.setattr(Purse, "allows", lambda self, price: True)
    assert sum(answers(Planner(costs), costs, texts(12, 128, *HOSTILE))) > 1.03 * 12 * plain_seconds(costs, 128)


@given(
    chapters=st.lists(
        st.tuples(st.sampled_from([GOOD, TOO_SURE, WORSE, HOSTILE]), st.integers(1, 3)), min_size=1, max_size=4
    ),
    draft_forward=st.floats(0.01, 2.0),
    per_row=st.floats(0.0, 0.1),
    seed=st.integers(0, 999),
)
@settings(max_examples=15)
def test_however_a_draft_changes_little_is_lost(chapters, draft_forward, per_row, seed):
    """From any time on: two hundredths, what two purses hold after winnings, and prompts that were read in vain."""
    costs = machine(draft_forward, per_row)
    told = [each for number, (draft, count) in enumerate(chapters) for each in texts(count, 64, *draft, seed + number)]
    seconds, plain = answers(Planner(costs), costs, told), plain_seconds(costs, 64)
    for begin in range(len(seconds)):
        after = seconds[begin:]
        assert sum(after) <= 1.02 * len(after) * plain + 1.1 * 2 * (MOST + costs.reading(DRAFT_PROMPT)) + 3
        assert begin or sum(after) <= 1.02 * len(after) * plain + 4 + 2 * costs.reading(DRAFT_PROMPT)


@pytest.mark.part(2)
@pytest.mark.parametrize("draft_forward", [0.05, 0.2, 0.5], ids="draft of {}".format)
@pytest.mark.parametrize("number_before", [1, 12])
def test_a_draft_that_becomes_good_is_found_out(draft_forward, number_before):
    costs = machine(draft_forward)
    planner, plain = Planner(costs), plain_seconds(costs, 128)
    answers(planner, costs, texts(number_before, 128, *HOSTILE))
    never_bad = sum(answers(Planner(costs), costs, texts(4, 128, *GOOD)))
    later = answers(planner, costs, texts(12, 128, *GOOD, seed=1))
    assert all(seconds <= 1.04 * plain for seconds in later)
    assert sum(later[-4:]) <= 1.1 * never_bad


def test_whoever_gave_up_for_good_would_be_noticed(monkeypatch: pytest.MonkeyPatch):
    costs = machine(0.2)
    planner = Planner(costs)
    answers(planner, costs, texts(1, 128, *HOSTILE))
    monkeypatch.setattr("specvlm.planning.purse.SHARE", 0.0)
    later = answers(planner, costs, texts(12, 128, *GOOD, seed=1))
    assert sum(later[-4:]) > 1.1 * sum(answers(Planner(costs), costs, texts(4, 128, *GOOD)))


@pytest.mark.part(2)
@pytest.mark.parametrize("times", [0.2, 5.0])
@pytest.mark.parametrize("draft_forward", [0.05, 0.3], ids="draft of {}".format)
def test_costs_that_were_measured_wrong_are_mended_by_answers(draft_forward, times):
    costs = machine(draft_forward)
    wrong, told = replace(costs, draft=costs.draft * times), texts(24, LENGTH, *GOOD)
    planner = Planner(wrong)
    mended = sum(answers(planner, costs, told)[-4:])
    assert planner.costs.draft.forward(1, 0) == pytest.approx(draft_forward, rel=0.3)
    assert mended <= 1.06 * sum(answers(Planner(costs), costs, told)[-4:])


@pytest.mark.part(2)
@pytest.mark.parametrize("draft_forward", [0.05, 0.3], ids="draft of {}".format)
@pytest.mark.parametrize(
    "left",  # of the draft's acceptance, by ratio
    [(1.0, 1.0, 1.0, 1.0, 1.0), (1.0, 0.99, 0.97, 0.94, 0.7), (1.0, 0.8, 0.6, 0.4, 0.3)],
    ids=["blind", "graceful", "steep"],
)
def test_the_pruning_ratio_is_about_the_best_one(left, draft_forward):
    costs = machine(draft_forward, 0.005)

    def seconds(ratio: float, number: int) -> float:
        kept = round(900 * (1 - ratio))
        return told[ratio][number].decode_seconds + costs.reading(100 + kept)

    planner, chosen, told = Planner(costs), [], {}
    for ratio, share in zip(RATIOS, left, strict=True):
        told[ratio] = [tell(each, costs, Planner(costs).shape) for each in texts(4, LENGTH, share, share)]
    for number in range(16):
        chosen.append(planner.pruning_ratio(1000, 900, 256))
        share = left[RATIOS.index(chosen[-1])]
        (places,) = texts(1, LENGTH, share, share, seed=number)
        planner.learn(chosen[-1], LENGTH, tell(places, costs, planner.shape))
    means = {ratio: sum(seconds(ratio, number) for number in range(4)) for ratio in RATIOS}
    assert sum(means[ratio] for ratio in chosen[-8:]) / 8 <= 1.1 * min(means.values())


def test_answers_in_flight_may_share_what_is_learnt():
    """In threads that interrupt each other at any moment: nothing breaks, and what is believed stays possible."""
    costs, interval = machine(0.1), sys.getswitchinterval()
    planner = Planner(costs)
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            told = list(pool.map(lambda seed: answers(planner, costs, texts(3, 64, *GOOD, seed)), range(4)))
    finally:
        sys.setswitchinterval(interval)
    acceptance = planner.experience.acceptance
    assert all(0 <= each.total <= each.weight + 1e-9 for each in (*acceptance.by_confidence, *acceptance.by_depth))
    assert sum(map(sum, told)) < 0.8 * 12 * plain_seconds(costs, 64)
