"""Stock generate that goes on from its own cache says what it says to the whole prompt."""

from __future__ import annotations

import pytest
import torch

import tiny
from specvlm.answering.options import Options
from specvlm.bench.stock_reading import StockReading
from specvlm.pipeline import SpecVLM

FILM = tiny.film(6, 1)
QUESTIONS = ("what happens?", "what happens, and then?", "a red ball?", "a red ball?", "what?")
OPTIONS = {
    "greedy": Options(do_sample=False, max_new_tokens=8),
    "sampled": Options(do_sample=True, seed=3, max_new_tokens=8, repetition_penalty=1.3),
    "nothing": Options(do_sample=False, max_new_tokens=0),
    "one": Options(do_sample=False, max_new_tokens=1),
}


@pytest.fixture
def prefills(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many video tokens each call of stock generate had pixels for."""
    seen: list[int] = []
    from specvlm.bench import stock_reading as module

    original = module.stock_answer

    def counted(target, prompt, options, stats, **aids):
        has_pixels = any(name.startswith("pixel_values") for name in prompt.model_inputs)
        seen.append(prompt.num_video_tokens if has_pixels else 0)
        return original(target, prompt, options, stats, **aids)

    monkeypatch.setattr(module, "stock_answer", counted)
    return seen


@pytest.mark.part(2)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("family", tiny.BUILDERS)
def test_it_says_what_stock_generate_says(family, options, prefills) -> None:
    vlm = SpecVLM(tiny.family(tiny.model(family, 0, dtype=torch.float64)))
    reading = StockReading(vlm, FILM, options)
    for question in QUESTIONS:
        right = vlm.autoregressive(FILM, question, options)
        ours = reading.ask(question)
        assert (ours.token_ids, ours.text, ours.finish_reason) == (right.token_ids, right.text, right.finish_reason)
    assert prefills[0] > 0
    if options.max_new_tokens > 0:
        assert prefills[1:] == [0] * (len(QUESTIONS) - 1)


def test_another_system_prompt_is_read_from_the_beginning(prefills) -> None:
    vlm = SpecVLM(tiny.family(tiny.model("qwen2_5_vl", 0, dtype=torch.float64)))
    reading = StockReading(vlm, FILM, OPTIONS["greedy"])
    reading.ask("what happens?")
    reading._options = other = Options(do_sample=False, max_new_tokens=8, system="be brief")
    assert reading.ask("what happens?").token_ids == vlm.autoregressive(FILM, "what happens?", other).token_ids
    assert prefills[1] == prefills[0]
