"""Negative controls of recurrent layers: break one thing on purpose, and the comparison with stock must notice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import pytest
import torch

import tiny
from parity.pairs import pair
from parity.scenes import SCENES
from specvlm.engine.caches import recurrent_layer
from specvlm.engine.caches.branches import Plan
from specvlm.engine.caches.recurrent_layer import RecurrentLayer, State
from specvlm.families import Family
from specvlm.families.decoder import HFDecoder

OPTIONS = {"pruning_ratio": 0.0, "tree": "paper", "max_new_tokens": 24}
every_family = pytest.mark.parametrize("family", tiny.RECURRENT)


@lru_cache
def right(family: str, seed: int) -> tuple[int, ...]:
    """By stock generate, which no control breaks: it has caches of its own."""
    asked = SCENES["one video"](seed)
    return pair("close", torch.float64, family).autoregressive(asked.video, "what happens?", **OPTIONS).token_ids


def differs(family: str) -> bool:
    """Is one of 3 answers not stock generate's?"""
    vlm = pair("close", torch.float64, family)
    answers = (vlm.generate(SCENES["one video"](seed).video, "what happens?", **OPTIONS) for seed in range(3))
    return any(answer.token_ids != right(family, seed) for seed, answer in enumerate(answers))


def test_unbroken_nothing_differs() -> None:
    """The control of the controls."""
    assert not any(differs(family) for family in tiny.RECURRENT)


def one_token_late(fold: Callable[..., None]) -> Callable[..., None]:
    """What was accepted last isn't folded in."""

    def late(self: RecurrentLayer, parents: Sequence[int], node: int, tips: Sequence[int]) -> None:
        fold(self, parents, parents[node] if node >= 0 else node, tips)

    return late


def not_taken_back(fold: Callable[..., None]) -> Callable[..., None]:
    """Whatever was accepted, the state goes on from the last node of the tree."""

    def wrong(self: RecurrentLayer, parents: Sequence[int], node: int, tips: Sequence[int]) -> None:
        fold(self, parents, len(parents) - 1, tips)

    return wrong


def of_the_memory_alone(fold: Callable[..., None]) -> Callable[..., None]:
    """The window of the convolution stays where it was."""

    def stale(self: RecurrentLayer, parents: Sequence[int], node: int, tips: Sequence[int]) -> None:
        window = self.state.window
        fold(self, parents, node, tips)
        self.state = State(window, self.state.memory)

    return stale


def of_the_window_alone(fold: Callable[..., None]) -> Callable[..., None]:
    def stale(self: RecurrentLayer, parents: Sequence[int], node: int, tips: Sequence[int]) -> None:
        memory = self.state.memory
        fold(self, parents, node, tips)
        self.state = State(self.state.window, memory)

    return stale


@pytest.mark.part(2)
@pytest.mark.parametrize("broken", [one_token_late, not_taken_back, of_the_memory_alone, of_the_window_alone])
@every_family
def test_a_state_that_is_not_of_what_was_accepted(
    monkeypatch: pytest.MonkeyPatch, family: str, broken: Callable
) -> None:
    monkeypatch.setattr(RecurrentLayer, "fold", broken(RecurrentLayer.fold))
    assert differs(family)


@every_family
def test_a_state_of_the_wrong_branch(monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    """Each node of a tree reads the state of its parent's sibling."""
    roots = RecurrentLayer.grow

    def swapped(self: RecurrentLayer, plan: Plan, advance: Callable, inputs: tuple) -> torch.Tensor:
        def crossed(inputs: tuple, states: torch.Tensor | None) -> tuple:
            return advance(inputs, states if states is None or len(states) < 2 else states.roll(1, 0))

        return roots(self, plan, crossed, inputs)

    monkeypatch.setattr(RecurrentLayer, "grow", swapped)
    assert differs(family)


@pytest.mark.parametrize("by", [1, -1])
@every_family
def test_a_window_of_the_convolution_that_is_off_by_one(monkeypatch: pytest.MonkeyPatch, family: str, by: int) -> None:
    """In a tree; each node's own column stays its own."""
    windows = Plan.windows

    def shifted(self: Plan, width: int) -> torch.Tensor:
        places = windows(self, width)
        return torch.cat([(places[:, :-1] - by).clamp(0, width + len(self.parents) - 1), places[:, -1:]], dim=1)

    monkeypatch.setattr(Plan, "windows", shifted)
    assert differs(family)


@every_family
def test_a_kept_window_that_is_off_by_one(monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    line = recurrent_layer.line
    monkeypatch.setattr(recurrent_layer, "line", lambda parents, node, count: line(parents, parents[node], count))
    assert differs(family)


@every_family
def test_a_wrong_state_of_the_draft_costs_acceptance_alone(monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    vlm = pair("twin", torch.float64, family)
    asked = SCENES["one video"](1).video
    whole = vlm.generate(asked, "what happens?", **OPTIONS)
    assert isinstance(vlm.draft, Family)
    decoder, prefill = vlm.draft.decoder, HFDecoder.prefill

    def forgetful(self: HFDecoder, *args: Any) -> torch.Tensor:
        logits = prefill(self, *args)
        if self is decoder:
            for layer in args[2]._recurrent:
                layer.state = State(layer.state.window, torch.zeros_like(layer.state.memory))
        return logits

    monkeypatch.setattr(HFDecoder, "prefill", forgetful)
    poor = vlm.generate(asked, "what happens?", **OPTIONS)
    assert poor.token_ids == whole.token_ids
    assert poor.stats.num_accepted < whole.stats.num_accepted
