"""Costs: what was measured comes out again; noise doesn't bend it out of shape."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specvlm.planning.costs import Costs, PairCosts

ROWS = (1, 2, 4, 8, 16, 32, 64)
SECONDS = st.floats(1e-4, 10.0)
measurements = st.fixed_dictionaries(
    {(count, 64): SECONDS for count in ROWS} | {(count, 4096): SECONDS for count in (1, 8, 32)}
)


def linear(rows: int, cached: int) -> float:
    return 0.02 + 0.0003 * rows + cached * (2e-6 + 1e-8 * rows)


def test_what_is_so_is_found():
    costs = Costs.fit(
        {(count, 64): linear(count, 64) for count in ROWS} | {(8, 4096): linear(8, 4096), (32, 900): linear(32, 900)}
    )
    assert costs.per_token == pytest.approx(2e-6)
    assert costs.per_pair == pytest.approx(1e-8)
    for rows in (1, 3, 8, 40, 64):
        for cached in (0, 64, 5000):
            assert costs.forward(rows, cached) == pytest.approx(linear(rows, cached))
    assert costs.forward(128, 0) == pytest.approx(2 * linear(64, 0))


@given(measurements, st.integers(1, 200), st.integers(0, 9000))
def test_costs_of_many_counts_of_rows_are_those_of_each(measured, most, cached):
    costs = Costs.fit(measured)
    assert costs.forwards(most, cached).tolist() == [costs.forward(rows, cached) for rows in range(1, most + 1)]


@given(measurements)
def test_more_is_never_faster_whatever_a_clock_said(measured):
    costs = Costs.fit(measured)
    times = [
        [costs.forward(rows, cached) for cached in (0, 64, 1000, 9000)] for rows in (1, 2, 3, 5, 16, 50, 64, 65, 500)
    ]
    for fewer, more in pairwise(times):
        assert all(less <= longer * (1 + 1e-9) for less, longer in zip(fewer, more, strict=True))
    assert all(row == sorted(row) and row[0] > 0 for row in times)


@given(st.sampled_from(ROWS), st.floats(2.0, 20.0))
def test_one_disturbed_measurement_spoils_no_other_by_more_than_its_share(count, times):
    """The neighbours of a time that is too long share it; had all that come after been lifted to it, so would they."""
    right = {(rows, 64): linear(rows, 64) for rows in ROWS} | {(rows, 4096): linear(rows, 4096) for rows in (1, 8, 32)}
    costs = Costs.fit(right | {(count, 64): times * right[count, 64]})
    lifted = sum(costs.forward(rows, 64) - right[rows, 64] for rows in ROWS)
    assert lifted <= 1.1 * (times - 1) * right[count, 64]


@given(measurements)
def test_both_coefficients_are_the_best_that_are_not_negative(measured):
    costs = Costs.fit(measured)

    def miss(per_token: float, per_pair: float) -> float:
        return sum(
            (seconds - measured[count, 64] - (cached - 64) * (per_token + count * per_pair)) ** 2
            for (count, cached), seconds in measured.items()
            if cached > 64
        )

    least = miss(costs.per_token, costs.per_pair)
    for token in (0.0, 1e-6, 1e-5):
        for pair in (0.0, 1e-7, 1e-6):
            assert least <= miss(token, pair) + 1e-9
            assert least <= miss(costs.per_token + token, costs.per_pair + pair) + 1e-9


@given(measurements, st.floats(0.01, 100.0), st.integers(1, 300), st.integers(0, 9000))
def test_so_many_times_as_dear(measured, times, rows, cached):
    costs = Costs.fit(measured)
    assert (costs * times).forward(rows, cached) == pytest.approx(times * costs.forward(rows, cached))


def test_even_the_least_costs_can_be_halved():
    assert (Costs.fit({(1, 64): 0.0, (2, 64): 0.0, (1, 99): 0.0}) * 0.5).forward(1, 0) > 0


def test_a_target_that_drafts_for_itself_has_read_its_prompt():
    costs = Costs.of(linear, ROWS)
    assert PairCosts(costs, costs).reading(300) == costs.forward(300, 150)
    assert PairCosts(costs, costs, draft_reads=False).reading(300) == 0


@pytest.mark.parametrize(
    "measured", [{(1, 64): 1.0, (1, 99): 2.0}, {(1, 64): 1.0, (2, 64): 1.0}, {(1, 64): 1.0, (2, 64): 1.0, (3, 99): 1.0}]
)
def test_too_few_measurements_are_refused(measured):
    with pytest.raises(ValueError, match="need two counts of rows"):
        Costs.fit(measured)


@pytest.mark.parametrize(
    "broken",
    [
        ((), (), 0.0, 0.0),
        ((1, 2), (1.0,), 0.0, 0.0),
        ((2, 1), (1.0, 2.0), 0.0, 0.0),
        ((0, 1), (1.0, 2.0), 0.0, 0.0),
        ((1, 2), (2.0, 1.0), 0.0, 0.0),
        ((1, 2), (0.0, 1.0), 0.0, 0.0),
        ((1, 2), (1.0, math.nan), 0.0, 0.0),
        ((1, 2), (1.0, math.inf), 0.0, 0.0),
        ((1, 2), (1.0, 2.0), -1e-9, 0.0),
        ((1, 2), (1.0, 2.0), 0.0, -1e-9),
    ],
)
def test_numbers_that_are_no_costs_are_refused(broken):
    with pytest.raises(ValueError, match="no forward costs"):
        Costs(*broken)
