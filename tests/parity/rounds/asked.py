"""What the device's rounds are asked: all trees, all ways to decode; and stock generate's answers, each made once."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

import torch

import tiny
from parity.conftest import Same
from parity.pairs import pair
from specvlm.pipeline import Generation
from specvlm.video import Video

QUESTION = "what happens?"

TREES: dict[str, dict[str, Any]] = {
    "dynamic": {"tree": "dynamic"},
    "wide": {"depth": 4, "width": 4, "num_nodes": 20},
    "narrow": {"depth": 7, "width": 1},
    "level": {"depth": 1, "width": 6},
    "paper": {"tree": "paper"},
    "chain": {"tree": "chain"},
    "paths": {"tree": ((0,), (1,), (0, 0), (1, 0), (1, 1), (0, 0, 2))},
    "ranks": {"tree": ((0,), (3,), (3, 0))},
}

DECODINGS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "penalty": {"repetition_penalty": 1.3},
    "sampled": {"do_sample": True, "seed": 3, "temperature": 0.7, "top_k": 20},
    "nucleus": {"do_sample": True, "seed": 5, "top_p": 0.9, "repetition_penalty": 1.1},
    "likely": {"do_sample": True, "seed": 7, "temperature": 1.3, "min_p": 0.05},
}

DRAFTS = ("twin", "close", "rough", "small", "hostile", "kin", "wide")


@lru_cache
def film(number: int) -> Video:
    return tiny.film(4 + number % 3, number)


@cache
def stock(family: str, dtype: torch.dtype, number: int, /, **decoding: Any) -> Generation:
    """What the target says of a film by itself, whoever drafts."""
    return pair("close", dtype, family).autoregressive(film(number), QUESTION, **decoding)


def on_device(
    same: Same, family: str, dtype: torch.dtype, name: str, number: int, decoding: dict[str, Any], **options: Any
) -> Generation:
    """The answer by rounds of the device with the draft `name`, found equal to stock generate's."""
    right = stock(family, dtype, number, **decoding)
    answer = same(
        pair(name, dtype, family), film(number), QUESTION, right=right, rounds="device", **decoding, **options
    )
    assert answer.stats.on_host_because is None or not answer.stats.rounds
    return answer
