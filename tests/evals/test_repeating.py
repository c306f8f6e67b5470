"""command_of(): what a shell needs to ask the same."""

from __future__ import annotations

import shlex

import pytest

from specvlm.answering.options import Options
from specvlm.comparing.compare import ARMS
from specvlm.evals.experiment import Experiment
from specvlm.evals.reporting.repeating import command_of
from specvlm.evals.settings import Setting
from specvlm.evals.sweeping.grid import Grid


def words(options: Options, **asked) -> list[str]:
    made = Experiment(task="pocket", settings=(Setting(options),), **asked)
    return shlex.split(command_of(made.asked(), "a run"))


def test_what_is_usual_is_left_out():
    assert words(Options()) == ["specvlm", "eval", "--task", "pocket", "--arms", ",".join(ARMS), "--out", "a run"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (Options(strict=True), "--strict"),
        (Options(do_sample=True, seed=7), "--do-sample --seed 7"),
        (Options(pruning_ratio=0.123456789), "--pruning-ratio 0.123456789"),
        (Options(stop=("a b", "$x")), "--stop 'a b' --stop '$x'"),
        (Options(tree=[[0], [0, 0]]), "--tree '[[0], [0, 0]]'"),
        (Options(system="it's <b>", max_new_tokens=3), """--system 'it'"'"'s <b>' --max-new-tokens 3"""),
        (Options(pruner="verifier_guided(fraction=0.5)"), "--pruner 'verifier_guided(fraction=0.5)'"),
    ],
)
def test_what_was_chosen_is_said(options, said):
    assert words(options)[6:-2] == shlex.split(said)


def test_models_and_samples():
    asked = {"models": {"target": "a/b", "draft": None, "dtype": "auto"}, "num_samples": 3, "order_seed": 1}
    told = words(Options(), task_options={"subsets": ("x", "y"), "data": ""}, **asked)
    assert told[2:-4] == shlex.split("--task pocket --subset x --subset y --num-samples 3 --order-seed 1 --target a/b")


def test_models_loaded_apart():
    apart = {"target_kwargs": {"dtype": "bfloat16"}, "draft_kwargs": {"quantization_config": "int8"}}
    told = words(Options(), models={"target": "a/b", **apart})
    assert told[4:8] == shlex.split("--target a/b --target-dtype bfloat16")
    assert told[8:10] == shlex.split("--draft-quantization int8")


def test_a_sweeps_axes_follow_from_its_points():
    grid = Grid(pruners=("frames", "uniform"), ratios=(0.5, 0.95), trees=("paper", "auto"), frames=(8, 16))
    made = Experiment(task="pocket", settings=grid.settings(Options(max_new_tokens=9)))
    axes = "--pruners frames,uniform --ratios 0.5,0.95 --trees paper,auto --frames 8,16 --max-new-tokens 9"
    assert command_of(made.asked(), "x") == f"specvlm sweep --task pocket {axes} --out x"
