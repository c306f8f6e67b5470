"""`strict=True` in low precision: without a draft the numbers are stock generate's to the bit, not its tokens alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import tiny
from specvlm.answering.options import Options
from specvlm.engine.stats import Stats
from specvlm.families.decoder import HFDecoder
from specvlm.pipeline import SpecVLM

FILM = tiny.film(6, 1)
OPTIONS = Options(do_sample=False, max_new_tokens=24, strict=True)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The logits in front of each token of an answer."""
    logits: list[Tensor] = []
    prefill, step = HFDecoder.prefill, HFDecoder.step

    def heard_prefill(self: HFDecoder, *given: Any) -> Tensor:
        logits.append(prefill(self, *given))
        return logits[-1]

    def heard_step(self: HFDecoder, *given: Any, **more: Any) -> Tensor:
        rows = step(self, *given, **more)
        logits.append(rows[-1])
        return rows

    monkeypatch.setattr(HFDecoder, "prefill", heard_prefill)
    monkeypatch.setattr(HFDecoder, "step", heard_step)
    return logits


def stock_logits(vlm: SpecVLM) -> list[Tensor]:
    model: Any = vlm.target.model
    prompt = vlm.prepare(FILM, "what happens?", OPTIONS, Stats())
    inputs = {
        name: value.to(model.dtype) if name.startswith("pixel_values") else value
        for name, value in prompt.model_inputs.items()
    }
    with vlm.target.as_found():
        output = model.generate(**inputs, **OPTIONS.generate_kwargs(), return_dict_in_generate=True, output_logits=True)
    return [row[0] for row in output.logits]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("family", tiny.BUILDERS)
def test_without_a_draft_the_numbers_are_stock_generates_to_the_bit(family, dtype, heard) -> None:
    vlm = SpecVLM(tiny.family(tiny.model(family, 0, dtype=dtype)))
    heard.clear()  # the probe has spoken
    vlm.generate(FILM, "what happens?", OPTIONS)
    right = stock_logits(vlm)
    assert len(heard) == len(right) > 1
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(heard, right, strict=True))
