"""Compiled steps: the same answers, each number of rows compiled once, and no harm where a step can't be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

import tiny
from specvlm.answering.pair import Pair
from specvlm.answering.stage import Stage
from specvlm.cli import app
from specvlm.engine.rounds.arena import Arena
from specvlm.engine.rounds.compiled import CompiledDecoder
from specvlm.errors import OptionError
from specvlm.families import Family
from specvlm.families.device_decoder import HFDeviceDecoder
from specvlm.pipeline import SpecVLM

CHAIN = {"tree": [[0]], "max_new_tokens": 12}
"""A tree of one guess: both models read two rows at once, and no others."""


def small_pair(compile: Any = "none") -> SpecVLM:
    target = tiny.family(tiny.model("llava_onevision", layers=1), "tiny target")
    return SpecVLM(target, tiny.family(tiny.model("llava_onevision", layers=1), "tiny draft"), compile=compile)


def compiled_of(vlm: SpecVLM) -> tuple[CompiledDecoder, CompiledDecoder]:
    assert isinstance(vlm.draft, Family)
    arena = vlm.pair.stage(vlm.draft).arena
    assert isinstance(arena.target, CompiledDecoder)
    assert isinstance(arena.draft, CompiledDecoder)
    return arena.target, arena.draft


def test_the_same_answers_by_one_compilation_each() -> None:
    right = small_pair().generate(tiny.video(4), "what happens?", **CHAIN)
    vlm = small_pair("inductor")
    for _ in range(2):
        ours = vlm.generate(tiny.video(4), "what happens?", **CHAIN)
        assert ours.token_ids == right.token_ids
        assert ours.stats.on_host_because is None
    assert [len(each.compiled) for each in compiled_of(vlm)] == [1, 1]
    assert all(each.seconds > 0 for each in compiled_of(vlm))


class Asking:
    """A decoder that asks the host in the middle of a step."""

    def __init__(self, inner: HFDeviceDecoder) -> None:
        self.inner = inner

    def step_at(self, tokens: Tensor, *rest: Any) -> Tensor:
        assert int(tokens[0]) >= 0
        return self.inner.step_at(tokens, *rest)


def test_what_asks_the_host_is_run_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    vlm = small_pair()
    right = vlm.generate(tiny.video(4), "what happens?", rounds="host", **CHAIN)
    assert isinstance(vlm.draft, Family)
    inner = HFDeviceDecoder(vlm.target.decoder), HFDeviceDecoder(vlm.draft.decoder)
    arena = Arena(*(CompiledDecoder(Asking(each)) for each in inner), whole=True)
    vlm.pair._stages.append(Stage(arena, (inner[0].buffers(0), inner[1].buffers(0)), None))
    ours = vlm.generate(tiny.video(4), "what happens?", rounds="device", **CHAIN)
    assert ours.token_ids == right.token_ids
    said = [record.getMessage().partition(":")[0] for record in caplog.records if record.name.startswith("specvlm")]
    assert said == ["forwards are run without being compiled"] * 2


def test_what_can_not_be_is_refused() -> None:
    with pytest.raises(OptionError, match="compile='graphs' is for CUDA, and tiny target is on cpu"):
        small_pair("graphs")


def test_a_name_that_there_is_not_is_refused() -> None:
    """On the command line, since Python's callers are told by their types as well; before any model is loaded."""
    told = CliRunner().invoke(app, ["plan", "--compile", "fast"])
    assert told.exit_code == 2
    assert "'fast' is not one of 'auto', 'none', 'graphs', 'inductor'" in told.stderr


def test_by_default_nothing_is_compiled_on_a_cpu() -> None:
    vlm = small_pair("auto")
    assert vlm.pair.compile == "none"
    assert isinstance(vlm.pair, Pair)
    assert torch.device(vlm.target.decoder.device).type == "cpu"
