"""Tokens that tie to the last bit, because the head has one row for both: `strict` answers as stock generate does."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedModel

import tiny
from parity.conftest import Same

ASKED = {"plan": "fixed", "tree": "paper", "pruning_ratio": 0.5, "max_new_tokens": 24}


def of_twins(dtype: torch.dtype) -> PreTrainedModel:
    """Each token of the second half has the head's row of one in the first, and stands for another word."""
    model = tiny.llava_model(0, dtype=dtype)
    with torch.no_grad():
        rows = model.lm_head.weight
        half = len(rows) // 2
        rows[half:] = rows[:half]
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_strict_chooses_between_equal_rows_as_stock_generate_does(dtype: torch.dtype, same: Same) -> None:
    model = of_twins(dtype)
    vlm = tiny.pair(model, tiny.noised(model, 0.02))
    for seed in (1, 2):
        # Every choice is too close to call, so each is looked at again, and nothing is taken for granted.
        assert same(vlm, tiny.film(5, seed), **ASKED, strict=True).stats.num_accepted == 0
