"""A draft with the target's own weights and the whole video must be right every time, at every depth."""

from __future__ import annotations

import pytest
import torch

import tiny
from parity.pairs import pair

LONG = [pytest.param(name, marks=pytest.mark.parity) for name in tiny.QWEN]


@pytest.mark.part(2)
@pytest.mark.parametrize("name", ["twin", "self"])
@pytest.mark.parametrize("tree", ["paper", "chain"])
@pytest.mark.parametrize("family", ["llava_onevision", *LONG])
def test_all_five_levels_are_accepted_in_every_round(family: str, tree: str, name: str) -> None:
    """5 of 5, so 6 tokens a round with the bonus. The paper's code reaches 3.995: its deeper levels see siblings.

    A model that is its own draft has the video twice over: as a second model, or in the rows of its own cache.
    """
    vlm = pair(name, torch.float64, family)
    whole = 0
    for seed in range(6):
        answer = vlm.generate(
            tiny.film(5, seed=seed), "what happens?", tree=tree, depth=5, pruning_ratio=0.0, max_new_tokens=31
        )
        if answer.finish_reason == "length":
            whole += 1
            assert answer.stats.accepted_per_depth == [5] * 5
            assert answer.stats.num_rounds == 5
            assert answer.stats.mean_acceptance_length == 6.0
    assert whole >= 4
