"""Negative controls: break one thing of the device's rounds on purpose: answers must differ, or guesses be worse."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from parity.pairs import pair, target
from parity.rounds.asked import DECODINGS, film, stock
from specvlm.engine.caches.indexed_cache import IndexedCache
from specvlm.engine.rounds import growing
from specvlm.engine.rounds.growing import Tree
from specvlm.engine.rounds.picking import Dice
from specvlm.engine.rounds.state import State
from specvlm.pipeline import Generation
from tiny.words import END, token_id

FAMILY, NUM_FILMS = "llava_onevision", 2
LENGTH = {"max_new_tokens": 31}


def answers(name: str = "twin", decoding: str = "greedy", tree: str = "chain") -> list[Generation]:
    vlm, options = pair(name, torch.float64, FAMILY), {"rounds": "device", "pruning_ratio": 0.0, "tree": tree}
    return [
        vlm.generate(film(number), "what happens?", **options, **LENGTH, **DECODINGS[decoding])
        for number in range(NUM_FILMS)
    ]


def differences(name: str = "twin", decoding: str = "greedy", tree: str = "chain") -> int:
    ours = answers(name, decoding, tree)
    right = [stock(FAMILY, torch.float64, number, **LENGTH, **DECODINGS[decoding]) for number in range(NUM_FILMS)]
    return sum(one.token_ids != other.token_ids for one, other in zip(ours, right, strict=True))


def accepted(name: str = "twin", tree: str = "chain") -> int:
    return sum(answer.stats.num_accepted for answer in answers(name, tree=tree))


def test_unbroken_nothing_differs() -> None:
    """The control of the controls."""
    assert [differences("close", decoding, "paper") for decoding in ("greedy", "sampled")] == [0, 0]
    assert accepted() == 5 * 5 * NUM_FILMS


def test_a_mask_that_has_lost_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deepest node of a chain doesn't see its parent."""
    make = growing._tree

    def blind(*given: Any) -> Tree:
        tree = make(*given)
        return dataclasses.replace(tree, mask=tree.mask.index_put((tree.parents[-1:] + 1, tree.parents[-1:]),
                                                                  torch.tensor(False)))  # fmt: skip

    monkeypatch.setattr(growing, "_tree", blind)
    assert differences() > 0


def told(**shifts: int) -> Callable[..., None]:
    """State.write with some numbers off."""
    write = State.write

    def tell(self: State, **numbers: list[int]) -> None:
        write(self, **{name: [each + shifts.get(name, 0) for each in given] for name, given in numbers.items()})

    return tell


@pytest.mark.parametrize("shifts", [{"target_length": -1}, {"target_offset": 1}, {"target_offset": -1}], ids=str)
def test_what_the_target_is_told_wrong_makes_answers_wrong(monkeypatch: pytest.MonkeyPatch, shifts: dict) -> None:
    monkeypatch.setattr(State, "write", told(**shifts))
    assert differences() > 0


@pytest.mark.parametrize("shifts", [{"draft_length": -1}, {"draft_offset": 3}], ids=str)
def test_what_the_draft_is_told_wrong_costs_acceptance_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, shifts: dict
) -> None:
    before = accepted()
    monkeypatch.setattr(State, "write", told(**shifts))
    assert differences() == 0
    assert accepted() < before


def test_rows_that_are_not_closed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(IndexedCache, "move", lambda self, source, destination: None)
    assert differences("close", tree="paper") > 0


def test_an_end_that_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that stock generate ends in their middle go on."""
    tokens = stock(FAMILY, torch.float64, 0, **LENGTH).token_ids
    end = next(token for token in tokens[8:] if token not in tokens[:8])
    monkeypatch.setattr(target(torch.float64, FAMILY).generation_config, "eos_token_id", [token_id(END), end])
    vlm, options = pair("twin", torch.float64, FAMILY), {"rounds": "device", "pruning_ratio": 0.0, **LENGTH}
    right = vlm.generate(film(0), "what happens?", **options).token_ids
    assert right == tokens[: tokens.index(end) + 1]
    monkeypatch.setattr(State, "write", told(eos_ids=1000))
    assert vlm.generate(film(0), "what happens?", **options).token_ids == tokens


def test_dice_that_are_not_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Dice, "keep", lambda self, count: self.states.clear())
    assert differences("close", "sampled") > 0
