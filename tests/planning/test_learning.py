"""What is learnt, and what it may cost: averages, acceptance, the purse and the ratios, each by itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planning.strategies import experience, experiences
from planning.worlds import machine, tell, texts
from specvlm.engine.stats import Stats
from specvlm.planning.acceptance import FIRST_BELIEF, FIRST_DEPTH, Acceptance
from specvlm.planning.average import Average
from specvlm.planning.deciding import ANSWER_LENGTH
from specvlm.planning.planner import Planner
from specvlm.planning.purse import SHARE, Purse
from specvlm.planning.ratios import FIRST, RATIOS, Ratios


def test_an_average_forgets_and_a_belief_fills_the_gap():
    average = Average(0.5)
    assert average.value(7.0) == 7.0
    average.add(4)
    average.add(2)
    assert average.value(0.0) == pytest.approx((0.5 * 4 + 2) / 1.5)
    assert average.value(1.0, 3.0) == pytest.approx((4 + 3) / 4.5)
    for _ in range(60):
        average.add(0, 0)
    assert average.value(1.0, 3.0) == pytest.approx(1.0)


@given(experiences, st.floats(0.0, 1.0), st.integers(1, 30))
def test_beliefs_are_chances(believed, confidence, depth):
    acceptance = experience(believed).acceptance
    assert 0 <= acceptance.of_guesses([confidence])[0] <= 1
    assert all(0 <= chance <= 1 for chance in acceptance.at_depths(depth))
    assert len(acceptance.at_depths(depth)) == depth


def test_a_stranger_is_believed_what_it_says_and_trusted_step_by_step():
    acceptance = Acceptance()
    assert acceptance.of_guesses([0.42])[0] == 0.42
    assert acceptance.at_depths(3) == [FIRST_BELIEF] * 3
    depths = [acceptance.max_depth]
    for _ in range(4):
        acceptance.learn([], depths[-1], depths[-1])  # all right, as deep as it goes
        depths.append(acceptance.max_depth)
    assert depths == [FIRST_DEPTH * 2**step for step in range(5)]
    acceptance.learn([], 0, 1)
    assert acceptance.max_depth == depths[-1]


def test_frequencies_are_learnt_class_by_class_and_depth_by_depth():
    acceptance = Acceptance()
    for number in range(400):
        reached = (0, 1, 3, 3)[number % 4]
        acceptance.learn([(0.9, number % 2 == 0), (0.05, number % 4 == 0)], reached, min(reached + 1, 3))
    assert acceptance.of_guesses([0.88])[0] == pytest.approx(0.5, abs=0.05)
    assert acceptance.of_guesses([0.06])[0] == pytest.approx(0.25, abs=0.05)
    assert acceptance.of_guesses([0.6])[0] == 0.6
    assert acceptance.at_depths(4) == pytest.approx([3 / 4, 2 / 3, 1.0, 1.0], abs=0.05)


def test_bad_luck_is_forgotten_where_nothing_more_is_seen():
    """Or what it ruled out would never be tried again."""
    acceptance = Acceptance()
    for _ in range(30):
        acceptance.learn([(0.4, False)], 1, 2)
    assert acceptance.of_guesses([0.4])[0] < 0.15 > acceptance.at_depths(2)[1]
    for _ in range(500):
        acceptance.learn([(0.9, True)], 1, 1)
    assert acceptance.of_guesses([0.4])[0] > 0.3
    assert acceptance.at_depths(2)[1] > 0.8


attempts = st.lists(st.tuples(st.floats(0.01, 5.0), st.floats(0.0, 1.0)), min_size=1, max_size=200)


@given(attempts, st.floats(0.0, 9.0), st.floats(0.0, 9.0), st.floats(0.0, 9.0))
def test_no_more_is_lost_than_a_share_and_what_was_there(made, left, saved, most):
    """Attempts that lose up to their price, and rounds without one: against any opponent."""
    purse = Purse(min(left, max(saved, most)), saved, most)
    held, time, tokens, dearest = purse.left, 0.0, 0, 0.0
    for price, lost in made:
        forwards = 1.0
        if purse.allows(price):
            forwards, dearest = 1 + price * lost, max(dearest, price)
        purse.settle(1, forwards)
        time, tokens = time + forwards, tokens + 1
        assert time <= (1 + SHARE) * tokens + held + dearest + 1e-9
        assert purse.left <= max(saved, most)


@pytest.mark.parametrize("price", [0.1, 0.7, 3.0])
def test_what_was_given_up_is_tried_again_as_often_as_the_share_allows(price):
    purse, tried = Purse(0.0, 1.0, 8.0), 0
    for _ in range(10_000):
        attempt = purse.allows(price)
        tried += attempt
        purse.settle(1, 1 + price * attempt)
    assert tried == pytest.approx(10_000 * SHARE / price, rel=0.05)


def test_winnings_are_saved_up_to_a_limit_and_the_share_up_to_a_lower_one():
    purse = Purse(0.0, 1.0, 8.0)
    for _ in range(1000):
        purse.settle(1, 1)
    assert purse.left == 1.0
    for _ in range(1000):
        purse.settle(3, 1)
    assert purse.left == 8.0
    purse.settle(1, 30)
    assert purse.left == pytest.approx(8 - 29 + SHARE)


def test_what_was_saved_for_a_dear_attempt_is_not_lost_by_winning():
    purse = Purse(0.0, 64.0, 8.0)
    for _ in range(100):
        purse.settle(100, 100)
    assert purse.left == 64.0
    purse.settle(100, 50)
    assert purse.left == 64.0
    purse.settle(100, 170)
    purse.settle(100, 50)
    assert purse.left == 8.0


def test_the_first_ratio_is_the_papers_and_others_are_tried_where_they_could_be_better():
    assert Ratios().best(lambda ratio: 1 - ratio) == FIRST
    for reading, right in ((0.0, 0.0), (0.01, 0.0), (10.0, 0.95)):
        ratios = Ratios()
        ratios.learn(FIRST, 1000, 500.0)
        assert ratios.best(lambda ratio: reading * (1 - ratio)) == right  # noqa: B023


def test_no_ratio_is_condemned_for_good():
    ratios, tried = Ratios(), []
    ratios.learn(FIRST, 128, 64.0)
    ratios.learn(0.5, 6, 9.0)  # an unlucky short answer
    for _ in range(200):
        tried.append(ratios.best(lambda ratio: 0.05 * (1 - ratio)))
        ratios.learn(tried[-1], 128, {0.5: 50.0}.get(tried[-1], 64.0))
    assert tried[-1] == 0.5


def test_a_ratio_of_the_users_own_teaches_nothing_about_others():
    ratios = Ratios()
    ratios.learn(0.42, 100, 50.0)
    assert ratios == Ratios()
    assert list(ratios.tried) == list(RATIOS)


def test_the_usual_length_is_learnt_and_never_more_than_was_asked_for():
    planner = Planner(machine(0.2))
    assert planner.expected_length(999) == ANSWER_LENGTH
    assert planner.expected_length(20) == 19
    assert planner.expected_length(1) == 1
    for _ in range(30):
        planner.learn(None, 11, Stats())
    assert planner.expected_length(999) == pytest.approx(10, abs=1)


def test_an_answer_that_was_cut_tells_of_no_shorter_ones():
    """A warm-up of eight tokens, say."""
    planner = Planner(machine(0.2))
    for _ in range(30):
        planner.learn(None, 8, Stats(), cut=True)
    assert planner.expected_length(999) == ANSWER_LENGTH
    planner.learn(None, 501, Stats(), cut=True)
    assert planner.expected_length(999) > 1.2 * ANSWER_LENGTH


def test_a_prompt_that_costs_more_than_its_guesses_win_is_not_read():
    """Answers of 5 tokens, and a prompt that takes as long as 20: not worth it, unlike answers of 100."""
    costs = machine(0.2)
    num_tokens = next(n for n in range(1, 9999) if costs.reading(n) > 20)
    planner = Planner(costs)
    assert planner.drafts(1000, num_tokens, 256)
    for _ in range(30):
        planner.learn(None, 6, Stats())
    assert not planner.drafts(1000, num_tokens, 256)
    assert planner.drafts(1000, 10, 256)


def test_an_answer_whose_phases_nobody_timed_teaches_all_but_what_they_took():
    """As on a GPU, which isn't waited for after each phase unless somebody asks."""
    costs, told = machine(0.2), texts(1, 65)[0]
    planner = Planner(costs)
    stats = tell(told, costs, planner.shape)
    stats.phases["draft"] *= 3
    untimed = replace(stats, phases={})
    planner.learn(0.9, len(told), untimed)
    assert planner.costs == costs
    assert planner.expected_length(1000) < ANSWER_LENGTH
    planner.learn(0.9, len(told), stats)
    assert planner.costs.draft.forward(1, 0) > 1.5 * costs.draft.forward(1, 0)
