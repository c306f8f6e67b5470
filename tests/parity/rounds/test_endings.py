"""Answers of the device end where stock generate ends them: at every place of a path, and at every length."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

import tiny
from parity.conftest import Same
from parity.pairs import pair, target
from parity.rounds.asked import DECODINGS, TREES, film, on_device, stock
from specvlm.pipeline import Generation
from tiny.words import END, token_id

LENGTH = 21
FAMILIES = list(tiny.BUILDERS)


def place_of_end(answer: Generation) -> str:
    """Where in its last round an answer ended."""
    if not answer.stats.rounds:
        return "first"
    last = answer.stats.rounds[-1]
    if last.num_accepted == 0:
        return "root"
    on_path = any(last.tree.parents[node] == last.path[-1] and token == last.next_token
                  for node, token in enumerate(last.tree.tokens))  # fmt: skip
    return "inside" if on_path else "bonus"


def check_ends(same: Same, monkeypatch: Any, family: str, name: str, decoding: str, tree: str, step: int) -> Counter:
    """Each `step`-th token of an answer, and its neighbour, are made to end it. Returns where ends fell in rounds."""
    asked, places = {"max_new_tokens": LENGTH, **DECODINGS[decoding]}, Counter()
    whole = stock(family, torch.float64, 1, **asked).token_ids
    for index in range(0, len(whole), step):
        with monkeypatch.context() as patch:
            ends = [token_id(END), whole[index], whole[index - 1]][: 2 + index % 2]
            patch.setattr(target(torch.float64, family).generation_config, "eos_token_id", ends)
            vlm = pair(name, torch.float64, family)
            answer = same(vlm, film(1), rounds="device", pruning_ratio=0.0, **asked, **TREES[tree])
            assert answer.finish_reason == "eos"
            assert answer.stats.on_host_because is None
            places[place_of_end(answer)] += 1
    return places


@pytest.mark.parity
@pytest.mark.parametrize("name", ["twin", "close"])
@pytest.mark.parametrize("decoding", ["greedy", "sampled", "nucleus"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_end_token_wherever_it_falls(
    same: Same, monkeypatch: pytest.MonkeyPatch, family: str, decoding: str, name: str
) -> None:
    tree = ("paper", "wide", "chain")[FAMILIES.index(family) % 3]
    places = check_ends(same, monkeypatch, family, name, decoding, tree, 1)
    assert len(places) > 1
    if name == "twin" and decoding == "greedy":
        assert places["inside"] > 0


def test_some_ends(same: Same, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_ends(same, monkeypatch, "llava_onevision", "twin", "greedy", "paper", 3)["inside"] > 0


@pytest.mark.parity
@pytest.mark.parametrize("tree", ["dynamic", "paper", "narrow"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_length(same: Same, family: str, tree: str) -> None:
    """Trees are cut to what is left of an answer, and its last token alone is the host's."""
    for length in range(1, 41):
        name, decoding = ("twin", "close", "rough")[length % 3], list(DECODINGS)[length % 4]
        asked = {"max_new_tokens": length, **DECODINGS[decoding]}
        stats = on_device(same, family, torch.float32, name, 2, asked, pruning_ratio=0.0, **TREES[tree]).stats
        left = length - 1
        for each in stats.rounds:
            assert max(each.tree.depths) < left
            left -= len(each.path)


@pytest.mark.parametrize("length", [1, 2, 3, 7])
def test_some_lengths(same: Same, length: int) -> None:
    on_device(same, "qwen2_5_vl", torch.float32, "twin", 2, {"max_new_tokens": length}, pruning_ratio=0.0)
