"""Lines through what was measured: of what belongs together, and of nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.documents import PLAIN
from specvlm.bench.growth import ANSWER, PROMPT, ROWS, growths, line
from specvlm.bench.steps import OURS, STOCK, Step


def test_points_on_a_line_give_it_back():
    found = line("x", PROMPT, [(3, 17.0), (1, 7.0), (2, 12.0)])
    assert found is not None
    assert found.points == ((1.0, 7.0), (2.0, 12.0), (3.0, 17.0))
    assert (found.slope, found.intercept) == pytest.approx((5.0, 2.0))


@pytest.mark.parametrize("points", [[], [(1, 2.0)], [(1, 2.0), (1, 3.0)]])
def test_one_place_makes_no_line(points):
    assert line("x", PROMPT, points) is None


def arm(prompt: int, tokens: int):
    """Decoding takes 0.1 s a token, and a millisecond more for each token of the prompt; prefill 0.02 s a token."""
    seconds = 0.1 + prompt / 1000
    return replace(
        PLAIN,
        arm="loop",
        tokens=tokens,
        decode_seconds=(tokens - 1) * seconds,
        tokens_per_second=1 / seconds,
        ttft_seconds=prompt / 40,
        phases={"prefill_target": prompt / 50},
    )


def test_each_line_is_drawn_with_all_else_held():
    """Two lengths of prompt and two of answer: prompts compare at the longest answer, answers at the longest prompt."""
    arms = [(v, n, v + 10, arm(v + 10, n)) for v in (100, 300) for n in (20, 60)]
    found = {each.what: each for each in growths(arms, [])}
    assert found.keys() == {
        "time to first token, loop",
        "a token, loop",
        "prefill of the target, loop",
        "decoding, loop",
    }
    assert found["a token, loop"].slope == pytest.approx(0.001)
    assert found["prefill of the target, loop"].slope == pytest.approx(1 / 50)
    assert found["time to first token, loop"].slope == pytest.approx(1 / 40)
    assert found["decoding, loop"].slope == pytest.approx(0.1 + 310 / 1000)
    assert [len(found[name].points) for name in ("a token, loop", "decoding, loop")] == [2, 2]
    assert found["decoding, loop"].over == ANSWER


def test_rows_are_ours_and_one_line_for_each_length():
    steps = [Step(STOCK, 1, 300, 9.0, 9.0, 9.0)]
    steps += [Step(OURS, rows, cached, 1.0 + rows * cached, 0.0, 0.0) for rows in (1, 8) for cached in (300, 900)]
    found = growths([(100, 20, 110, arm(110, 20))], steps)
    assert [(each.over, each.slope) for each in found] == [(ROWS, pytest.approx(300)), (ROWS, pytest.approx(900))]
