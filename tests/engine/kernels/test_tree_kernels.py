"""The kernels of tree attention compute what they should: run by Triton's interpreter, without a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.kernels.interpreted import DIMS, DTYPES, GROUPS, LENGTHS, ROWS

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def interpreted() -> list[dict]:
    """What the script prints, in a process of its own."""
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
    told = subprocess.run(
        [sys.executable, "-W", "error", "-m", "engine.kernels.interpreted"],
        env=os.environ | {"PYTHONPATH": paths, "TRITON_INTERPRET": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    return [json.loads(line) for line in told.stdout.splitlines()]


def test_the_kernels_compute_what_float64_does(interpreted):
    cases = [line for line in interpreted if "case" in line]
    met = {name: {line["case"][name] for line in cases} for name in cases[0]["case"]}
    for name, values in (
        ("dim", DIMS),
        ("groups", GROUPS),
        ("rows", (*ROWS, 64, 256)),
        ("length", LENGTHS),
        ("dtype", DTYPES),
    ):
        assert met[name] >= set(values)
    wrong = [line for line in cases if not line["difference"] <= line["tolerance"]]
    assert wrong == []
    assert sum(line["blind_rows"] for line in cases) > 0  # rows that see nothing give zeros
    for line in cases:
        case = line["case"]
        heads = case["kv_heads"] * case["groups"]
        assert line["shape"] == [1, heads, case["rows"], case["dim"]]
        assert line["dtype"] == f"torch.{case['dtype']}"


@pytest.mark.parametrize("lost", ["a bit of the mask", "a length", "the weights of the merge"])
def test_what_is_lost_shows(interpreted, lost):
    by_name = {line["lost"]: line for line in interpreted if "lost" in line}
    assert by_name["nothing"]["difference"] <= by_name["nothing"]["tolerance"]
    assert by_name[lost]["difference"] > 2 * by_name[lost]["tolerance"]
