"""Negative controls of what these families add: break one thing on purpose, and the comparison must notice."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

import tiny
from parity.pairs import pair
from specvlm.families import Family
from specvlm.prompts.prompt import Prompt

FULL = {"pruning_ratio": 0.0, "tree": "paper", "max_new_tokens": 24}


def differs(family: str) -> bool:
    """Is one of 2 answers not stock generate's?"""
    vlm, films = pair("close", torch.float64, family), [tiny.film(5, seed) for seed in range(2)]
    return any(
        vlm.generate(film, "what happens?", **FULL).token_ids
        != vlm.autoregressive(film, "what happens?", max_new_tokens=24).token_ids
        for film in films
    )


def later_frames_first(prompt: Prompt) -> Prompt:
    frames = prompt.frame_ids
    return dataclasses.replace(prompt, frame_ids=frames.max() - frames)


def places_out_of_order(prompt: Prompt) -> Prompt:
    """As when a square's rows are taken for its columns."""
    places = prompt.place_ids.clone()
    places[prompt.frame_ids == 0] = places[prompt.frame_ids == 0].flip(0)
    return dataclasses.replace(prompt, place_ids=places)


def words_between_frames_not_counted(prompt: Prompt) -> Prompt:
    rows = prompt.position_ids.clone()
    rows[:, prompt.split :] -= 1
    return dataclasses.replace(prompt, position_ids=rows, next_position=prompt.next_position - 1)


@pytest.mark.parametrize("change", [later_frames_first, places_out_of_order, words_between_frames_not_counted])
@pytest.mark.parametrize(
    "family", [next(iter(tiny.MORE)), *(pytest.param(name, marks=pytest.mark.parity) for name in list(tiny.MORE)[1:])]
)
def test_what_is_wrong_is_noticed(
    monkeypatch: pytest.MonkeyPatch, family: str, change: Callable[[Prompt], Prompt]
) -> None:
    """What the family makes of inputs is wrong; what the processor made, and so what stock generate reads, is not."""
    assert not differs(family)
    kind: type[Family] = type(pair("close", torch.float64, family).target)
    made = kind.prompt_from_inputs
    monkeypatch.setattr(kind, "prompt_from_inputs", lambda self, inputs: change(made(self, inputs)))
    assert differs(family)
