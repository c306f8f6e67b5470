"""From what a user types to a pruner and a number of tokens."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruning.test_contract import EVERY
from specvlm.errors import OptionError
from specvlm.pruning import PRUNERS, Frames, Random, VerifierGuided, Window, make_pruner, num_to_keep


@pytest.mark.parametrize(
    ("num_tokens", "ratio", "kept"),
    [
        (100, 0.9, 10),  # 100 * (1 - 0.9) is 9.999... in floats
        (5, 0.9, 1),  # a half goes up, even where floats see less than one
        (1, 0.5, 1),
        (3, 0.5, 2),
        (5, 0.5, 3),  # Python's round gives 2
        (7, 0.5, 4),
        (1569, 0.95, 78),
        (10, 0, 10),
        (10, 1, 0),
        (10, 1.0, 0),
        (0, 0.3, 0),
        (1, 0.9, 0),
    ],
)
def test_num_to_keep(num_tokens, ratio, kept):
    assert num_to_keep(num_tokens, ratio) == kept


@given(st.integers(0, 10**6), st.decimals(0, 1, places=4))
def test_num_to_keep_is_decimal_arithmetic_half_up(num_tokens, ratio):
    exact = (num_tokens * (1 - ratio)).quantize(Decimal(1), rounding=ROUND_HALF_UP)
    assert num_to_keep(num_tokens, float(ratio)) == exact


@given(st.integers(0, 10**4), st.floats(0, 1), st.floats(0, 1))
def test_a_higher_ratio_never_keeps_more(num_tokens, a, b):
    assert 0 <= num_to_keep(num_tokens, max(a, b)) <= num_to_keep(num_tokens, min(a, b)) <= num_tokens


@pytest.mark.usefixtures("unchecked_annotations")
@pytest.mark.parametrize("ratio", [-0.1, 1.5, float("nan"), float("inf"), True, False, 90, "0.9", None])
def test_num_to_keep_refuses_other_ratios(ratio):
    with pytest.raises(OptionError, match=f"pruning_ratio must be a number from 0 to 1, not {ratio!r}"):
        num_to_keep(10, ratio)


@pytest.mark.parametrize(
    ("spec", "pruner"),
    [
        ("frames", Frames()),
        ("frames()", Frames()),
        ("random", Random(seed=0)),
        (" random( seed = 3 ) ", Random(seed=3)),
        ("window(where='back')", Window("back")),
        ("verifier_guided(top_p=1)", VerifierGuided(top_p=1)),
        ("verifier_guided(top_p=0.3, fraction=None,)", VerifierGuided(top_p=0.3)),
        (Random(seed=4), Random(seed=4)),
    ],
)
def test_make_pruner(spec, pruner):
    assert make_pruner(spec) == pruner


@pytest.mark.parametrize("pruner", EVERY, ids=str)
def test_a_pruner_reads_back_from_its_text(pruner):
    assert make_pruner(str(pruner)) == pruner
    assert make_pruner(pruner) is pruner


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(OptionError, match="unknown pruner 'fastv'") as caught:
        make_pruner("fastv")
    assert all(name in str(caught.value) for name in PRUNERS)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("random(sed=3)", "'random' has no option 'sed': its options are seed"),
        ("frames(seed=3)", "'frames' has no option 'seed': its options are none"),
        ("verifier_guided(p=1)", "its options are top_p, fraction"),
        ("random(name='x')", "has no option 'name'"),
        ("random(seed='3')", "seed must be"),
        ("random(seed=-3)", "seed must be"),
        ("window(where='top')", "where must be one of front, middle, back"),
        ("window(where=['front'])", "where must be one of front, middle, back"),
        ("verifier_guided(top_p=40)", "top_p must be"),
        ("guided_focus(density=50)", "density must be a number from 0 to 1, not 50"),
    ],
)
@pytest.mark.usefixtures("unchecked_annotations")
def test_a_wrong_option_says_what_would_be_right(spec, message):
    with pytest.raises(OptionError, match=message):
        make_pruner(spec)


@pytest.mark.parametrize(
    "spec",
    [
        None,
        Frames,
        "",
        "   ",
        "None",
        "random(",
        "random)",
        "random(3)",
        "random(seed)",
        "random(*[3])",
        "random(**{'seed': 3})",
        "random(seed=1, seed=2)",
        "random(seed=1)(seed=2)",
        "random(seed=open('x'))",
        "random(seed=__import__('os').getpid())",
        "random(seed={[]: 1})",
        "base.random(seed=3)",
        "verifier-guided",
        "random; frames",
        "random\0",
        "random(seed=" + "(" * 10_000 + ")" * 10_000 + ")",
        "random(seed=" + "-" * 10_000 + "1)",
    ],
    ids=lambda spec: repr(spec)[:40],
)
@pytest.mark.usefixtures("unchecked_annotations")
def test_what_is_not_a_pruner_is_refused_and_never_run(spec):
    with pytest.raises(OptionError, match=r"written name or name\(option=value, ...\)"):
        make_pruner(spec)
