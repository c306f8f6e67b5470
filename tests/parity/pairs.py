"""The pairs of the grid: one target a family, and drafts that agree with it always, mostly, sometimes and never."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch
from transformers import PreTrainedModel

import tiny
from specvlm.pipeline import SpecVLM

DRAFTS = ("twin", "close", "rough", "small", "hostile")
"""By how often they are right: `twin` has the target's own weights, `hostile` says the least likely thing."""

QWEN_DRAFTS = ("twin", "close", "kin", "self", "wide", "hostile", "rough", "small")
"""`kin` has other words and the target's eyes; `self` is the target over a pruned copy of its own memory."""

ONE_TOWER = ("twin", "kin", "self", "hostile")

RECURRENT_DRAFTS = tuple(name for name in QWEN_DRAFTS if name != "self")
"""Of a target that folds what it reads, nothing can be left out for a draft of its own."""

EVERY_RUN = ("qwen2_5_vl", "qwen3_vl")
"""One with windows and a clock, one with deeper features: each brings all that its sibling has."""

every_family = pytest.mark.parametrize(
    "family", [name if name in EVERY_RUN else pytest.param(name, marks=pytest.mark.parity) for name in tiny.QWEN]
)
"""All Qwen-VL families in `make parity`, those of `EVERY_RUN` in every run of the tests."""


@lru_cache
def target(dtype: torch.dtype = torch.float32, family: str = "llava_onevision") -> PreTrainedModel:
    return tiny.model(family, 0, dtype=dtype)


@lru_cache
def draft(name: str, dtype: torch.dtype = torch.float32, family: str = "llava_onevision") -> PreTrainedModel:
    if name == "small":
        return tiny.model(family, 5, layers=1, hidden=16, heads=2, kv_heads=1, dtype=dtype)
    if name == "wide":
        return tiny.model(family, 6, layers=4, hidden=48, heads=6, kv_heads=3, vocabulary=352, dtype=dtype)
    own = target(dtype, family)
    if name == "kin":
        return tiny.noised(own, 0.03, same_vision=True)
    if name == "hostile":
        contrary = tiny.noised(own, 0.0)
        with torch.no_grad():
            contrary.lm_head.weight.neg_()
        return contrary
    return tiny.noised(own, {"twin": 0.0, "close": 0.02, "rough": 0.1}[name])


@lru_cache
def pair(name: str, dtype: torch.dtype = torch.float32, family: str = "llava_onevision") -> SpecVLM:
    return tiny.pair(target(dtype, family), "self" if name == "self" else draft(name, dtype, family))
