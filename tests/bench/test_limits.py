"""The place of an arm under the roofline, by counts small enough to follow."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.documents import PLAIN
from specvlm.answering.answer import Generation
from specvlm.bench.limits import counts, standing, typical
from specvlm.bench.roofline import Demand, Machine
from specvlm.engine.stats import Round, Stats
from specvlm.engine.tree import DraftTree

# Ten bytes of weights and one of cache a token, at a byte a second; arithmetic is free.
TARGET = Demand(weight_bytes=10, kv_bytes=1, token_flops=0, head_flops=0, pair_flops=0)
DRAFT = Demand(weight_bytes=2, kv_bytes=0, token_flops=0, head_flops=0, pair_flops=0)
MACHINE = Machine("made up", 1.0, 1e30)

PAIR_OF_GUESSES = DraftTree((5, 6, 7), (-1, 0, 1))


def run(decode_seconds: float, tokens: int = 7, rounds: int = 2, draft_forwards: int = 2) -> Generation:
    """`rounds` trees of two guesses, all right: three tokens each, and one before them."""
    made = Stats(num_tokens=tokens, num_prompt_tokens=100, num_video_tokens=50, num_kept=5)
    for _ in range(rounds):
        made.add_round(Round(PAIR_OF_GUESSES, (0, 1, 2), 8, draft_forwards))
    made.decode_seconds = decode_seconds
    return Generation(tuple(range(tokens)), "", "length", made)


ARM = replace(
    PLAIN,
    arm="specvlm",
    tokens=7,
    decode_seconds=400.0,
    phases={"prefill_target": 20.0, "draft": 16.0, "verify": 500.0},
)
AR = replace(PLAIN, tokens=7, decode_seconds=1000.0)
LOOP = replace(PLAIN, arm="loop", tokens=7, decode_seconds=900.0)


def test_bounds_are_what_the_bytes_take():
    """Two rounds behind 100 and 103 tokens, four forwards of the draft, weights once for each prompt."""
    stands = standing(ARM, [run(400.0)], AR, LOOP, (TARGET, DRAFT), MACHINE)
    assert stands.bound_seconds == {"prefill_target": 10.0, "draft": 8.0, "verify": 2 * 10 + 100 + 103}
    assert stands.times_bound == {"prefill_target": 2.0, "draft": 2.0, "verify": 500 / 223}


def test_both_limits_by_hand():
    stands = standing(ARM, [run(400.0)], AR, LOOP, (TARGET, DRAFT), MACHINE)
    assert stands.memory_limit.seconds == 223
    assert stands.memory_limit.speedup == 1000 / 223
    assert stands.memory_limit.percent == pytest.approx(100 * 223 / 400)
    # The loop took 150 a forward, and two forwards were needed.
    assert stands.loop_limit is not None
    assert (stands.loop_limit.seconds, stands.loop_limit.speedup) == (300, 1000 / 300)
    assert stands.loop_limit.percent == 75


def test_the_loop_is_its_own_limit_and_without_it_there_is_none():
    alone = Generation(tuple(range(7)), "", "length", Stats(num_tokens=7, num_prompt_tokens=100, num_rounds=6))
    alone.stats.decode_seconds = 900.0
    found = standing(LOOP, [alone], AR, LOOP, (TARGET, DRAFT), MACHINE).loop_limit
    assert found is not None
    assert found.percent == 100
    assert standing(ARM, [run(400.0)], AR, None, (TARGET, DRAFT), MACHINE).loop_limit is None


def test_without_a_draft_forward_the_draft_has_no_bound():
    stands = standing(ARM, [run(400.0, draft_forwards=0)], AR, LOOP, (TARGET, DRAFT), MACHINE)
    assert "draft" not in stands.bound_seconds


def test_an_answer_of_one_token_is_at_its_limit():
    one = Generation((1,), "", "length", Stats(num_tokens=1, num_prompt_tokens=100))
    arm = replace(ARM, tokens=1, decode_seconds=0.0)
    stands = standing(arm, [one], replace(AR, tokens=1), replace(LOOP, tokens=1), (TARGET, DRAFT), MACHINE)
    assert stands.memory_limit.percent == 100
    assert stands.loop_limit is None


def test_the_run_in_the_middle_is_typical():
    runs = [run(3.0), run(1.0), run(2.0)]
    assert typical(runs) is runs[2].stats
    assert typical(runs[:2]) is runs[1].stats


def test_counts_of_an_answer():
    found = counts(run(1.0).stats)
    assert (found.num_prompt_tokens, found.num_draft_prompt_tokens) == (100, 55)
    assert (found.num_rounds, found.num_nodes, found.num_draft_forwards) == (2, 3.0, 4)
    assert counts(Stats(num_tokens=1)).num_nodes == 1
