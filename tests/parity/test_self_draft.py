"""A draft with the target's own weights and the whole video must be right every time, at every depth."""

from __future__ import annotations

import pytest
import torch

import tiny
from parity.pairs import pair


@pytest.mark.parametrize("tree", ["paper", "chain"])
def test_all_five_levels_are_accepted_in_every_round(tree: str) -> None:
    """5 of 5, so 6 tokens a round with the bonus. The paper's code reaches 3.995: its deeper levels see siblings."""
    vlm = pair("twin", torch.float64)
    for seed in range(4):
        answer = vlm.generate(
            tiny.video(5, seed=seed), "what happens?", tree=tree, depth=5, pruning_ratio=0.0, max_new_tokens=31
        )
        assert answer.stats.accepted_per_depth == [5] * 5
        assert answer.stats.num_rounds == 5
        assert answer.stats.mean_acceptance_length == 6.0
