"""A second run with a feature cache decodes nothing and looks at nothing, and says the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from torch.nn.modules.module import register_module_forward_pre_hook
from transformers import PreTrainedModel
from typer.testing import CliRunner

from specvlm.answering import oracle
from specvlm.cli import app
from specvlm.evals.run_folder import read_run
from specvlm.video import loading

TIMED = ("seconds", "speedup", "per_second", "time", "phases", "bytes", "answer_plan")
"""What of a record is another one each time."""

TOWERS = ("SiglipVisionModel", "VisionTransformer", "VisionModel", "VisionTransformerPretrainedModel")
"""What classes of vision towers are called, by their ends."""


class Work:
    """Sources decoded; forwards of whole towers, by whom."""

    def __init__(self) -> None:
        self.decoded = self.by_stock = self.by_us = 0
        self.in_stock = False


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Iterator[Work]:
    counted = Work()
    generate = oracle.generate_stock

    def counting(decode: Callable[..., Any]) -> Callable[..., Any]:
        def counting_decode(*arguments: Any, **how: Any) -> Any:
            counted.decoded += 1
            return decode(*arguments, **how)

        return counting_decode

    def noticing_generate(*arguments: Any, **more: Any) -> Any:
        counted.in_stock = True
        try:
            return generate(*arguments, **more)
        finally:
            counted.in_stock = False

    def counting_forward(module: Any, given: Any) -> None:
        if type(module).__name__.endswith(TOWERS) and isinstance(module, PreTrainedModel):
            counted.by_stock += counted.in_stock
            counted.by_us += not counted.in_stock

    counting_forward.__module__ = "torch.utils.flop_counter"  # whose hooks on all modules pass: they look on

    for name in ("decode", "decode_before"):
        monkeypatch.setattr(loading, name, counting(getattr(loading, name)))
    monkeypatch.setattr(oracle, "generate_stock", noticing_generate)
    hook = register_module_forward_pre_hook(counting_forward)  # of all modules: one of a tower's own would be noticed
    yield counted
    hook.remove()


def evaluated(run: Callable, out: Path, *arguments: object) -> list[dict[str, Any]]:
    result = run("eval", "--out", out, "--task", "pocket", "--max-new-tokens", 12, *arguments)
    assert result.exit_code == 0, result.output
    return read_run(out).records


@pytest.fixture
def run() -> Callable:
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def said(record: dict[str, Any]) -> dict[str, Any]:
    """A record but for its times, and for where its film lies."""
    return {
        name: value for name, value in record.items() if name != "video" and not any(word in name for word in TIMED)
    }


@pytest.mark.parametrize(
    ("pair", "num_samples"),
    [
        ("pocket", 2),
        pytest.param("pocket", 20, marks=pytest.mark.slow),
        pytest.param("pocket-qwen2_5_vl", 20, marks=pytest.mark.slow),
    ],
)
def test_the_second_run_decodes_and_sees_nothing(
    run: Callable, work: Work, tmp_path: Path, pair: str, num_samples: int
) -> None:
    """Stock generate, which is measured as it is, takes the same pixels to its own tower: from the disk."""
    # The same films thrice: x264 writes a byte more now and then, and their sizes are in the digests of their rows.
    asked = ("--target", pair, "--num-samples", num_samples, "--data", tmp_path / "films")
    plain = evaluated(run, tmp_path / "plain", *asked)
    assert work.decoded == 4 * (num_samples + 1)  # each arm; and one sample to warm up
    stocks = work.by_stock
    assert stocks >= num_samples + 1
    assert work.by_us >= 3 * (num_samples + 1)
    cached = (*asked, "--feature-cache", tmp_path / "cache")
    evaluated(run, tmp_path / "first", *cached)
    work.decoded = work.by_stock = work.by_us = 0
    second = evaluated(run, tmp_path / "second", *cached)
    assert (work.decoded, work.by_us) == (0, 0)
    assert work.by_stock == stocks
    assert len(second) == 4 * num_samples
    assert list(map(said, second)) == list(map(said, plain))
    assert all(record["identical"] for record in second)


def test_times_that_stock_could_not_have_had_are_not_compared(run: Callable, tmp_path: Path) -> None:
    """Stock generate sees for itself: from end to end it would be held against somebody who needn't."""
    records = evaluated(run, tmp_path / "run", "--num-samples", 1, "--feature-cache", tmp_path / "cache")
    assert all(record["decode_speedup"] is not None for record in records)
    assert [record["end_to_end_speedup"] for record in records] == [None] * 4
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    arms = metrics["settings"]["default"]["arms"].values()
    assert all(arm["end_to_end_speedup"] is None and arm["decode_speedup"] > 0 for arm in arms)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "What was gained from end to end isn't told" in page.replace("&#39;", "'")


def test_a_run_goes_on_with_another_cache_or_none(run: Callable, tmp_path: Path) -> None:
    """It is no part of what was asked: answers don't hang on it."""
    evaluated(run, tmp_path / "run", "--num-samples", 1, "--feature-cache", tmp_path / "cache")
    assert len(evaluated(run, tmp_path / "run", "--num-samples", 2)) == 8
