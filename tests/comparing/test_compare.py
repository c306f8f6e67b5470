"""compare: each arm against stock generate, in the one record that every measurement is written in."""

from __future__ import annotations

import dataclasses
import json
from functools import lru_cache
from itertools import product

import pytest

import tiny
from specvlm.answering.options import Options
from specvlm.comparing.compare import ARMS, compare
from specvlm.comparing.record import SPEEDUPS, TIMES, Arm, document, fastest, first_divergence, record
from specvlm.engine.stats import PHASES, Stats
from specvlm.engine.tree import chain
from specvlm.errors import OptionError
from specvlm.pipeline import Generation, SpecVLM
from specvlm.pruning import Random

VIDEO = tiny.video(5)
QUESTION = "what happens?"


@lru_cache
def pair() -> SpecVLM:
    target = tiny.llava_model(0, layers=2)
    return tiny.llava_pair(target, tiny.noised(target, 0.01))


def generation(tokens: tuple[int, ...], total: float = 2.0, decode: float = 1.0, rounds: int = 0) -> Generation:
    stats = Stats(num_tokens=len(tokens), num_rounds=rounds, total_seconds=total, decode_seconds=decode)
    stats.phases = {"draft": decode / 4, "verify": decode}
    return Generation(tokens, "", "length", stats)


@pytest.mark.parametrize("arms", [("sd", "specvlm"), ARMS, ("specvlm", "ar", "specvlm")], ids=str)
def test_every_arm_gives_the_answer_of_stock_generate(arms):
    order: list[str] = []
    found = compare(
        pair(),
        VIDEO,
        QUESTION,
        Options(max_new_tokens=20, pruning_ratio=0.5),
        arms=arms,
        repeats=2,
        on_run=order.append,
    )
    expected = list(dict.fromkeys(("ar", *arms)))
    assert [arm.arm for arm in found.arms] == expected
    assert order == expected * 2
    assert all(arm.identical and arm.first_divergence is None and arm.tokens == 20 for arm in found.arms)
    assert {found.generations[arm].token_ids for arm in expected} == {found.generations["ar"].token_ids}
    by_name = {arm.arm: arm for arm in found.arms}
    assert by_name["ar"].decode_speedup == by_name["ar"].end_to_end_speedup == 1.0
    assert by_name["ar"].mean_acceptance_length == 1.0
    assert by_name["ar"].acceptance_rate is None
    assert by_name["specvlm"].mean_acceptance_length > 1
    assert by_name["specvlm"].num_kept < by_name["specvlm"].num_video_tokens == by_name["ar"].num_kept == 21
    if "sd" in by_name:
        assert by_name["sd"].num_kept == 21


def test_the_pipelines_own_compare_is_the_same():
    found = pair().compare(VIDEO, QUESTION, max_new_tokens=6)
    assert [(arm.arm, arm.identical, arm.tokens) for arm in found.arms] == [
        ("ar", True, 6),
        ("sd", True, 6),
        ("specvlm", True, 6),
        ("auto", True, 6),
    ]


def test_sampled_answers_can_be_compared_without_naming_a_seed():
    """All arms have to throw the same dice, or they could not but differ."""
    found = pair().compare(VIDEO, QUESTION, do_sample=True, temperature=1.5, max_new_tokens=12, repeats=2)
    assert all(arm.identical for arm in found.arms)


@pytest.mark.parametrize("limit", [0, 1])
def test_answers_without_a_round_can_be_compared(limit):
    found = pair().compare(VIDEO, QUESTION, max_new_tokens=limit)
    assert all(arm.identical and arm.tokens == limit and arm.decode_speedup > 0 for arm in found.arms)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(OptionError, match=r"no arm 'vllm'; there are ar, "):
        compare(pair(), VIDEO, QUESTION, arms=("vllm",))
    with pytest.raises(OptionError, match="'specvlm' needs a draft model"):
        compare(pair().without_draft(), VIDEO, QUESTION, arms=("specvlm",))
    with pytest.raises(OptionError, match="repeats must be 1 or more, up to 1000, not 0"):
        compare(pair(), VIDEO, QUESTION, repeats=0)


def test_without_a_draft_the_loop_can_still_be_compared():
    found = compare(pair().without_draft(), VIDEO, QUESTION, Options(max_new_tokens=6), arms=("loop",))
    assert [(arm.arm, arm.identical) for arm in found.arms] == [("ar", True), ("loop", True)]


def test_divergence_is_the_first_place_that_differs():
    """All pairs of answers of up to 3 tokens from a vocabulary of 2."""
    answers = [answer for length in range(4) for answer in product(range(2), repeat=length)]
    for mine, right in product(answers, repeat=2):
        padded = [(mine[i : i + 1], right[i : i + 1]) for i in range(4)]
        expected = next((i for i, (a, b) in enumerate(padded) if a != b), None)
        assert first_divergence(mine, right) == expected


def test_a_record_holds_medians_spreads_and_the_worst_divergence():
    oracle = [generation((1, 2, 3), total=4.0, decode=2.0), generation((1, 2, 3), total=6.0, decode=4.0)]
    runs = [
        generation((1, 2, 3), total=1.0, decode=0.5, rounds=1),
        generation((1, 9, 3), total=2.0, decode=1.0, rounds=1),
        generation((1, 2, 9), total=9.0, decode=8.0, rounds=1),
    ]
    arm = record("specvlm", runs, oracle)
    assert (arm.identical, arm.first_divergence) == (False, 1)
    assert (arm.total_seconds, arm.decode_seconds) == (2.0, 1.0)
    assert (arm.end_to_end_speedup, arm.decode_speedup) == (5.0 / 2.0, 3.0 / 1.0)
    assert arm.spread["total_seconds"] == (1.0, 9.0)
    assert arm.spread.keys() == set(TIMES)
    assert arm.phases == {"draft": 0.25, "verify": 1.0}
    assert arm.mean_acceptance_length == 2.0


def test_a_single_run_has_no_spread_and_without_an_oracle_nothing_is_claimed():
    arm = record("specvlm", [generation((1, 2))])
    assert arm.spread == {}
    assert (arm.identical, arm.first_divergence, arm.decode_speedup, arm.end_to_end_speedup) == (None,) * 4


def test_speedups_are_against_the_fastest_plain_stock_generate_which_is_named():
    """One is the faster in decoding, the other from end to end."""
    plain = {
        "ar": [generation((1, 2), total=6.0, decode=5.0)],
        "ar-no-cudnn": [generation((1, 2), total=8.0, decode=2.0)],
    }
    names = fastest(plain)
    assert names == {"decode_speedup": "ar-no-cudnn", "end_to_end_speedup": "ar"}
    assert names.keys() == SPEEDUPS.keys()
    peers = {name: plain[arm] for name, arm in names.items()}
    arm = record("specvlm", [generation((1, 2), total=3.0, decode=1.0)], plain["ar"], peers)
    assert (arm.decode_speedup, arm.end_to_end_speedup) == (2.0, 2.0)
    assert record("ar", plain["ar"], plain["ar"], peers).decode_speedup == 0.4


def test_what_an_answer_took_that_waited_for_a_compiler_stands_beside_the_others():
    runs = [generation((1, 2), total=total) for total in (1.0, 3.0, 2.0)]
    arm = record("ar-static", runs, runs, warm_up=generation((1, 2), total=30.0))
    assert (arm.total_seconds, arm.warm_up_seconds, arm.compile_seconds) == (2.0, 30.0, 28.0)
    assert record("ar-static", runs, runs, warm_up=generation((1, 2), total=1.5)).compile_seconds == 0.0
    assert record("ar", runs, runs).compile_seconds is None


def test_where_time_runs_out_the_rest_is_left_out_by_name():
    """`ar` has to run, or nothing could be compared; then there is time for one more."""
    left = iter([False, True, False, False])
    found = compare(
        pair(),
        VIDEO,
        QUESTION,
        Options(max_new_tokens=4),
        arms=("loop", "sd", "specvlm"),
        repeats=2,
        has_time=lambda: next(left, False),
    )
    assert [arm.arm for arm in found.arms] == ["ar", "loop"]
    assert all(len(runs) == 1 for runs in found.runs.values())
    assert found.left_out == ("sd", "specvlm")
    assert found.to_json()["left_out"] == ["sd", "specvlm"]


ARM_FIELDS = {field.name for field in dataclasses.fields(Arm)}


def test_the_record_is_one_json_document():
    options = Options(max_new_tokens=6, pruner=Random(seed=4), tree=chain(2), stop=("red",), history=(("a?", "b"),))
    found = compare(pair(), VIDEO, QUESTION, options)
    said = json.loads(json.dumps(found.to_json()))
    assert said.keys() == {"arms", "machine", "versions", "options", "refused", "baselines", "left_out"}
    for arm in said["arms"]:
        assert arm.keys() == ARM_FIELDS
        assert arm["phases"].keys() <= set(PHASES)
        assert arm["peak_memory_bytes"] > 1 << 20
        assert sum(arm["phases"].values()) == pytest.approx(arm["total_seconds"], rel=1e-6)
        assert 0 < arm["ttft_seconds"] <= arm["total_seconds"]
    assert said["options"].keys() == {field.name for field in dataclasses.fields(Options)}
    assert said["options"]["pruner"] == "random(seed=4)"
    assert said["options"]["max_new_tokens"] == 6
    assert said["options"]["history"] == [["a?", "b"]]
    assert document(found.arms, found.options)["options"] == found.to_json()["options"]


def test_what_needs_no_models_is_checked_without_them():
    from specvlm.comparing.compare import checked

    assert list(checked(["specvlm@0.5", "loop"])) == ["ar", "specvlm@0.5", "loop"]
    for arms, repeats, has_draft, naming in (
        (["legs"], 1, True, "legs"),
        (["legs " * 900], 1, True, "legs"),
        (["sd"], 1, False, "'sd' needs a draft"),
        (["loop"], 0, False, "repeats"),
    ):
        with pytest.raises(OptionError, match=naming) as refused:
            checked(arms, repeats, has_draft=has_draft)
        assert len(str(refused.value)) < 500
