"""The check of a widened pair, on shapes of a few megabytes: it passes on what is right, and fails on what is not."""

from __future__ import annotations

import runpy
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from bench.small import POCKET_SHAPES, never_written, pocket_model
from specvlm.bench.widened import check as checks
from specvlm.bench.widened.__main__ import main
from specvlm.bench.widened.check import Check, check, check_pair, step_seconds
from specvlm.bench.widened.shapes import PAIRS, Pair
from specvlm.bench.widened.widening import widen

PAIR = Pair(POCKET_SHAPES["target"], POCKET_SHAPES["draft"], "llava_onevision")
LIMITS = {"cached": 20, "steps": 2, "max_new_tokens": 12}

RIGHT = Check(PAIR.target, PAIR.target.num_parameters, 100, 100, 1.0, 0.50, 0.51, 12, 12)


@pytest.fixture(scope="module")
def found() -> list[Check]:
    return check_pair(PAIR, dtype=torch.float32, **LIMITS)


def test_a_widened_pair_is_whole_and_says_what_the_pocket_pair_says(found):
    for each, shape in zip(found, (PAIR.target, PAIR.draft), strict=True):
        assert each.shape == shape
        assert each.num_parameters == shape.num_parameters
        assert each.own_bytes == each.weight_bytes == 4 * shape.num_parameters
        assert each.num_same_tokens == each.num_tokens == 12
        assert each.step_seconds > 0
        assert each.random_step_seconds > 0


def test_what_memory_lacks_is_noticed():
    source = pocket_model("draft", torch.float32)
    wide = widen(source, PAIR.draft, dtype=torch.float32)
    weight = wide.model.language_model.layers[2].mlp.down_proj.weight
    hollow = never_written(weight.nbytes).view(torch.float32).view(weight.shape)
    wide.model.language_model.layers[2].mlp.down_proj.weight = nn.Parameter(hollow)
    each = check(source, wide, PAIR.draft, 0.0, **LIMITS)
    assert each.own_bytes < each.weight_bytes
    assert not each.passed


def test_checking_leaves_the_widened_model_as_it_was():
    source = pocket_model("draft", torch.float32)
    wide = widen(source, PAIR.draft, dtype=torch.float32)
    before = {name: weight.clone() for name, weight in wide.state_dict().items()}
    check(source, wide, PAIR.draft, 0.0, **LIMITS)
    assert all(torch.equal(weight, before[name]) for name, weight in wide.state_dict().items())


def test_a_model_that_says_something_else_is_noticed():
    source = pocket_model("draft", torch.float32)
    wide = widen(source, PAIR.draft, dtype=torch.float32)
    with torch.no_grad():
        wide.model.language_model.layers[0].mlp.up_proj.weight.mul_(-3)
    assert check(source, wide, PAIR.draft, 0.0, **LIMITS).num_same_tokens < 12


@pytest.mark.parametrize(
    ("change", "passed"),
    [
        ({}, True),
        ({"step_seconds": 0.52}, True),
        ({"step_seconds": 0.53}, False),
        ({"step_seconds": 0.49}, False),
        ({"own_bytes": 99}, False),
        ({"num_parameters": RIGHT.num_parameters - 1}, False),
        ({"num_same_tokens": 3}, True),
    ],
)
def test_what_passes(change, passed):
    each = replace(RIGHT, **change)
    assert each.passed == passed
    assert ("passed" if passed else "FAILED") in each.report()


@pytest.mark.parametrize(("step", "code"), [(0.51, 0), (0.6, 1)])
def test_the_command_tells_by_its_exit_code(step, code, monkeypatch, capsys):
    monkeypatch.setattr(checks, "check_pair", lambda pair, **options: [RIGHT, replace(RIGHT, step_seconds=step)])
    assert main(["--pair", next(iter(PAIRS)), "--check"]) == code
    assert capsys.readouterr().out.count("ms with random weights") == 2


@pytest.mark.filterwarnings("ignore:'specvlm.bench.widened.__main__' found in sys.modules:RuntimeWarning")
def test_run_as_a_script_it_checks_shapes_that_compare(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(checks, "check_pair", lambda pair, **options: asked.append((pair, options)) or [RIGHT])
    monkeypatch.setattr(sys, "argv", ["widened", "--pair", "qwen2.5-vl-7b+3b", "--check", "--cached", "40"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("specvlm.bench.widened", run_name="__main__")
    assert stop.value.code == 0
    options = {"dtype": torch.bfloat16, "cached": 40, "steps": 7, "max_new_tokens": 32}
    assert asked == [(PAIRS["qwen2.5-vl-7b+3b"], options)]
    assert "passed" in capsys.readouterr().out


def test_a_step_is_timed_as_often_as_asked():
    assert len(step_seconds(pocket_model("draft", torch.float32), 5, 3)) == 3
