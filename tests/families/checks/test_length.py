"""A text that is longer than all positions of its model."""

from __future__ import annotations

import pytest

import tiny
from specvlm import OptionError
from specvlm.pipeline import SpecVLM

POSITIONS = 60
MB = "what is this " * 80_000


@pytest.fixture(scope="module")
def vlm() -> SpecVLM:
    target = tiny.llava_model(0, layers=1)
    target.config.text_config.max_position_embeddings = POSITIONS
    return tiny.llava_pair(target, None)


def never(*_: object, **__: object) -> None:
    pytest.fail("a prompt was made of it")


@pytest.mark.parametrize(
    ("question", "more"),
    [
        (MB, {}),
        ("?" * (POSITIONS + 1) * 8, {}),
        ("what?", {"system": MB}),
        ("what?", {"history": (("what?", MB),)}),
    ],
)
def test_is_refused_before_a_prompt_is_made(vlm: SpecVLM, monkeypatch: pytest.MonkeyPatch, question: str, more: dict):
    monkeypatch.setattr(type(vlm.target.processor), "__call__", never)
    for ask in (vlm.generate, vlm.autoregressive, vlm.watch(None).ask):
        with pytest.raises(OptionError, match=f"the text takes .* tokens, and .* was made for {POSITIONS} positions"):
            ask(*(() if ask.__name__ == "ask" else (None,)), question, max_new_tokens=1, **more)


def test_as_many_bytes_as_positions_may_be_asked(vlm: SpecVLM):
    assert vlm.generate(None, "a" * (POSITIONS - 20), max_new_tokens=1).token_ids
