"""The pairs of the grid: one target, and drafts that agree with it always, mostly, sometimes and never."""

from __future__ import annotations

from functools import lru_cache

import torch
from transformers import PreTrainedModel

import tiny
from specvlm.pipeline import SpecVLM

DRAFTS = ("twin", "close", "rough", "small", "hostile")
"""By how often they are right: `twin` has the target's own weights, `hostile` says the least likely thing."""


@lru_cache
def target(dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    return tiny.llava_model(0).to(dtype)


@lru_cache
def draft(name: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    if name == "twin":
        return tiny.noised(target(dtype), 0.0)
    if name == "close":
        return tiny.noised(target(dtype), 0.02)
    if name == "rough":
        return tiny.noised(target(dtype), 0.1)
    if name == "small":
        return tiny.llava_model(5, layers=1, hidden=16, heads=2, kv_heads=1).to(dtype)
    assert name == "hostile"
    contrary = tiny.noised(target(dtype), 0.0)
    with torch.no_grad():
        contrary.lm_head.weight.neg_()
    return contrary


@lru_cache
def pair(name: str, dtype: torch.dtype = torch.float32) -> SpecVLM:
    return tiny.llava_pair(target(dtype), draft(name, dtype))
