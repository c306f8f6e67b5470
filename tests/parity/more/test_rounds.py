"""The families of a file each in rounds of the device, and asked many times about one video."""

from __future__ import annotations

import pytest
import torch

import tiny
from parity.conftest import Same
from parity.rounds.asked import DECODINGS, on_device
from watching.many_questions import check_turns, watcher

ROUNDS = {"dynamic": {"tree": "dynamic"}, "paper": {"tree": "paper"}, "chain": {"tree": "chain"}}


@pytest.mark.parametrize(
    "tree", ["paper", *(pytest.param(name, marks=pytest.mark.parity) for name in ("dynamic", "chain"))]
)
@pytest.mark.parametrize("family", tiny.MORE)
def test_rounds_of_the_device(same: Same, family: str, tree: str) -> None:
    for number, (dtype, name) in enumerate(((torch.float32, "close"), (torch.float64, "twin"))):
        decoding = list(DECODINGS.values())[2 * number]
        asked = {"max_new_tokens": 21, **decoding}
        stats = on_device(same, family, dtype, name, number, asked, pruning_ratio=0.5 * number, **ROUNDS[tree]).stats
        assert stats.rounds
        assert stats.num_drafted > 0


@pytest.mark.parity
@pytest.mark.parametrize("draft", ["close", "self"])
@pytest.mark.parametrize("family", tiny.MORE)
def test_many_questions_about_one_video(family: str, draft: str) -> None:
    assert check_turns(watcher(family, draft)) > 0
