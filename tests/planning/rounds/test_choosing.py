"""Which envelope the next round is played in, or none: decisions alone, on a machine whose clock is arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planning.rounds.told import costs, plan_of, planner, report, tell
from planning.worlds import machine
from specvlm.engine.stats import Round, Stats
from specvlm.engine.tree import DraftTree, DynamicTree
from specvlm.planning.acceptance import FIRST_BELIEF, Acceptance
from specvlm.planning.experience import MOST, START
from specvlm.planning.purse import SHARE, Purse
from specvlm.planning.rounds import choosing
from specvlm.planning.rounds.choosing import HOPE, PRIOR, WIDER, EnvelopePlan, Prospect, Record, best, tokens_by_depth
from specvlm.planning.rounds.costs import ENVELOPES, Line
from specvlm.planning.rounds.planner import DevicePlanner

SMALL, *_, DEEP = ENVELOPES
LENGTH = 256


def purse(left: float) -> Purse:
    return Purse(left, START, MOST)


def prospects(*of: tuple[int, float, float]) -> list[Prospect]:
    """From depths, tokens and forwards."""
    return [Prospect(DynamicTree(depth, 2, 2 * depth), tokens, forwards) for depth, tokens, forwards in of]


def test_the_fastest_that_pays_is_chosen():
    some = prospects((2, 2.0, 1.3), (4, 3.0, 1.6), (6, 3.5, 2.0))
    assert best(some, purse(1.0)) is some[1]


def test_what_can_not_be_afforded_is_left_alone_however_fast():
    some = prospects((2, 2.0, 1.3), (4, 3.0, 1.6), (6, 3.5, 2.0))
    assert best(some, purse(0.5)) is some[0]
    assert best(some, purse(0.2)) is None


def test_where_nothing_pays_the_cheapest_is_tried_as_the_purse_allows():
    some = prospects((2, 1.2, 1.5), (4, 1.9, 2.0))
    assert best(some, purse(0.6)) is some[0]
    assert best(some, purse(0.4)) is None


def test_what_can_never_pay_is_never_tried():
    """Even if all of two guesses are right, there are three tokens in the time of four."""
    assert best(prospects((2, 3.0, 4.0)), purse(8.0)) is None


def test_what_is_cheaper_than_no_guess_needs_no_purse():
    """On a GPU whose host is slow: a replayed round with guesses takes less time than a host's without."""
    some = prospects((2, 1.0, 0.4), (4, 1.4, 0.5))
    assert best(some, purse(-0.3)) is some[1]


def test_tokens_are_hoped_for_and_then_known():
    record = Record()
    hoped = HOPE * tokens_by_depth([FIRST_BELIEF] * 2)
    assert tokens_by_depth([0.5, 0.5]) == pytest.approx(1.75)
    assert record.tokens(SMALL) == pytest.approx(hoped)
    for _ in range(300):
        record.learn(SMALL, 1, 1)
    assert 1.0 < record.tokens(SMALL) < 1.1
    for _ in range(300):
        record.learn(DEEP, 5, 5)
    assert record.tokens(SMALL) > 1.5  # it may be otherwise by now
    assert record.tokens(DEEP) == pytest.approx(5, rel=0.1)


def test_a_width_is_believed_to_be_like_the_nearest_that_was_tried_or_better_if_it_is_wider():
    record = Record()
    for _ in range(500):
        record.learn(SMALL, 2, 2)  # the first guess is right, and never the second
    assert record.chances(2, 3) == pytest.approx([1.0, 0.0, 0.0], abs=0.05)
    assert record.chances(4, 2) == pytest.approx([1.0, WIDER], abs=0.05)
    record.learn(DEEP, 1, 1)
    assert record.chances(4, 1) == pytest.approx([(PRIOR * FIRST_BELIEF) / (PRIOR + 1)])


def test_a_cheap_draft_that_is_right_goes_deep():
    plan = plan_of(planner(0.02))
    tell(plan, lambda shape: 0.95, LENGTH)
    told = tell(plan, lambda shape: 0.95, LENGTH, 1)
    assert told.played.most_common(1)[0][0] == DEEP
    assert told.seconds < LENGTH / 4


def test_a_dear_draft_has_nothing_to_guess():
    """Two guesses that take as long as three tokens."""
    some = planner(1.5)
    assert not some.pays(1000, 100)
    told = tell(plan_of(some), lambda shape: 1.0, LENGTH)
    assert told.played == {None: LENGTH}


def test_a_draft_of_middling_cost_goes_as_deep_as_it_is_right():
    for chance, deepest in ((0.6, 4), (0.97, 10)):
        plan = plan_of(planner(0.12))
        tell(plan, lambda shape: chance, 2 * LENGTH)  # noqa: B023
        told = tell(plan, lambda shape: chance, LENGTH, 1)  # noqa: B023
        usual = told.played.most_common(1)[0][0]
        assert usual is not None
        assert (usual.depth <= 4) == (deepest == 4)


def test_a_wide_tree_is_tried_where_a_narrow_one_does_well_and_kept_if_it_is_better():
    """What is known of the narrow one doesn't tell."""
    for better in (2, 4):
        plan = plan_of(planner(0.06, 0.002))

        def chance(shape: DynamicTree) -> float:
            return 0.85 if shape.width == better else 0.7  # noqa: B023

        tell(plan, chance, 4 * LENGTH)
        told = tell(plan, chance, 2 * LENGTH, 1)
        usual = told.played.most_common(1)[0][0]
        assert usual is not None
        assert usual.width == better


@pytest.mark.part(4)
@pytest.mark.parametrize("draft", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("right", [0.3, 0.6, 0.95])
def test_no_envelope_for_all_rounds_is_much_faster(draft, right):
    """Nor is none at all, once a few answers have told what each is worth. A wider tree is right oftener."""
    plan = plan_of(planner(draft))

    def chance(shape: DynamicTree) -> float:
        return right + (shape.width > 2) * 0.3 * (1 - right)

    def always(shape: DynamicTree) -> EnvelopePlan:
        return plan_of(DevicePlanner(machine(0.02), rounds=costs(draft, shapes=(shape,))))

    def fixed(shape: DynamicTree, seed: int) -> float:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(choosing, "best", lambda prospects, purse: next(iter(prospects), None))
            patch.setattr(Acceptance, "max_depth", 99)
            return tell(always(shape), chance, 128, seed).seconds

    seconds = [tell(plan, chance, 128, seed).seconds for seed in range(24)][8:]
    best_fixed = min(sum(fixed(shape, seed) for seed in range(8, 24)) for shape in ENVELOPES)
    assert sum(seconds) <= 1.1 * min(best_fixed, 128 * len(seconds))


@pytest.mark.parametrize("length", [64, 256, 1024])
@pytest.mark.parametrize("draft", [0.02, 0.1, 0.3, 0.6, 1.5])
def test_a_hostile_draft_costs_what_was_in_the_purse_and_a_share(draft, length):
    some = planner(draft)
    cheapest = plan_of(some).forwards(SMALL) - 1
    told = tell(plan_of(some), lambda shape: 0.0, length)
    assert told.seconds <= (1 + SHARE) * length + START + cheapest
    later = tell(plan_of(some), lambda shape: 0.0, length, 1)
    assert later.seconds <= (1 + SHARE) * length + cheapest
    assert (told.played[SMALL] > 0) == (draft < 1)


def test_without_a_purse_it_would_cost_more(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Purse, "allows", lambda self, price: True)
    told = tell(plan_of(planner(0.3)), lambda shape: 0.0, LENGTH)
    assert told.seconds > 1.03 * LENGTH + START


@given(
    chapters=st.lists(st.tuples(st.floats(0.0, 1.0), st.integers(10, 200)), min_size=1, max_size=5),
    draft=st.floats(0.01, 2.0),
    per_row=st.floats(0.0, 0.05),
)
@settings(max_examples=20)
def test_however_a_draft_changes_little_is_lost(chapters, draft, per_row):
    plan, seconds, tokens = plan_of(planner(draft, per_row)), 0.0, 0
    for seed, (chance, length) in enumerate(chapters):
        seconds += tell(plan, lambda shape: chance, length, seed).seconds  # noqa: B023
        tokens += length
        cheapest = max(0.0, plan.forwards(SMALL) - 1)
        assert seconds <= (1 + SHARE) * tokens + START + cheapest + 1e-6


def test_a_draft_that_becomes_good_is_found_out():
    plan = plan_of(planner(0.1))
    bad = tell(plan, lambda shape: 0.0, 4 * LENGTH)
    good = [tell(plan, lambda shape: 0.95, LENGTH, seed).seconds for seed in range(6)]
    assert bad.seconds > 4 * LENGTH
    assert good[-1] < LENGTH / 2.5


def test_a_stranger_is_trusted_step_by_step():
    plan, depths = plan_of(planner(0.01)), []
    for _ in range(4):
        shape = plan.choose(99, 0)
        assert shape is not None
        depths.append(shape.depth)
        plan.learn(report(shape, shape.depth))
    assert depths == [2, 4, 6, 10]


def test_no_envelope_is_deeper_than_tokens_are_left():
    plan = plan_of(planner(0.01))
    for _ in range(9):
        plan.experience.acceptance.learn((), 10, 10)
        plan.record.learn(DEEP, 11, 10)
    assert plan.choose(99, 0) == DEEP
    assert plan.choose(2, 0) == plan.cut(3).choose(99, 0) == SMALL
    assert plan.choose(1, 0) is None


def test_what_the_draft_has_to_read_first_is_part_of_the_price():
    some = planner(0.05)
    plan = plan_of(some)
    before, after = (each[0].forwards for each in (plan.prospects(9, 1), plan.prospects(9, 500)))
    assert after - before == pytest.approx(some.measured.draft.forward(500, 100))


def test_what_answers_took_is_reckoned_by_their_envelopes():
    some = planner(0.1)
    stats = Stats(num_prompt_tokens=1000, num_video_tokens=900, num_kept=90)
    for shape in (SMALL, DEEP):
        stats.add_round(Round(report(shape, 1).tree, (0, 1), 0, shape.depth))
    expected = sum(plan_of(some).forwards(shape) for shape in (SMALL, DEEP))
    assert some.decoding(stats, 190) == pytest.approx(expected)
    stats.add_round(Round(DraftTree((0,), (-1,)), (0,), 0))
    assert some.decoding(stats, 190) == pytest.approx(expected + 1)
    some.learn(0.9, 6, stats)  # phases are of no use to it: a captured round has none
    assert some.lengths.value(0.0) == pytest.approx(5)


@pytest.mark.parametrize("line", [(0.0, 0.0), (1.0, -1.0), (float("nan"), 0.0), (float("inf"), 0.0)])
def test_no_line_of_nothing(line):
    with pytest.raises(ValueError, match="nothing takes"):
        Line(*line)


def test_a_line_goes_through_what_was_measured_and_never_falls():
    line = Line.through((64, 1.0), (4096, 2.0))
    assert [line.at(64), line.at(4096)] == pytest.approx([1.0, 2.0])
    assert line.at(2080) == pytest.approx(1.5)
    assert Line.through((64, 2.0), (4096, 1.0)).at(9999) == 2.0
