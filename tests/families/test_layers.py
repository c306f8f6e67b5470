"""Walking a model's layers: to the bit what the model's own forward makes of text."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import tiny
from specvlm.engine.caches.kv_cache import TreeCache
from specvlm.families import FAMILIES
from specvlm.families.layers import can_walk, walk
from specvlm.families.releases import cache_name

TOKENS = 3


def language_model(family: str, dtype: torch.dtype) -> Any:
    return tiny.family(tiny.model(family, dtype=dtype)).decoder.language_model


def position(family: str, place: int) -> torch.Tensor:
    """Of one token of text, as each family wants it."""
    return torch.full((3, 1, 1) if FAMILIES[family].position_rows == 3 else (1, 1), place)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("family", [*tiny.BUILDERS, *tiny.MORE])
def test_it_is_the_models_own_forward(family: str, dtype: torch.dtype) -> None:
    """Token by token, since a model's own attention masks a tree otherwise than ours."""
    model = language_model(family, dtype)
    assert can_walk(model)
    name, length = cache_name(model.forward), len(model.layers)
    ours, stock = TreeCache(length, TOKENS), TreeCache(length, TOKENS)
    for place in range(TOKENS):
        rows = torch.randn(1, 1, model.config.hidden_size, dtype=dtype)
        with torch.no_grad():
            walked = walk(model, rows, position(family, place), ours, name)
            called = model(inputs_embeds=rows, position_ids=position(family, place), **{name: stock})
        assert torch.equal(walked, called.last_hidden_state)
    for mine, theirs in zip(ours.layers, stock.layers, strict=True):
        assert torch.equal(mine.keys, theirs.keys)
        assert torch.equal(mine.values, theirs.values)


@pytest.mark.parametrize("family", [*tiny.BUILDERS, *tiny.MORE])
def test_whoever_hooks_into_the_call_is_heard(family: str) -> None:
    model = language_model(family, torch.float32)
    with_hook = model.register_forward_hook(lambda *told: None)
    assert not can_walk(model)
    with_hook.remove()
    assert can_walk(model)
    model.forward = model.forward  # as accelerate does it
    assert not can_walk(model)


def test_a_class_of_somebody_elses_is_called() -> None:
    model = language_model("llava_onevision", torch.float32)

    class Own(type(model)):  # type: ignore[misc]
        """With a forward that may be any."""

    model.__class__ = Own
    assert isinstance(model, nn.Module)
    assert not can_walk(model)
