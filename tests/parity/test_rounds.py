"""Rounds on the device: stock generate's tokens, by the very rounds that the host plays."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import tiny
from parity.conftest import Same

WAYS: dict[str, dict[str, Any]] = {
    "dynamic": {},
    "wide": {"depth": 4, "width": 4, "num_nodes": 20},
    "paper": {"tree": "paper"},
    "chain": {"tree": "chain"},
    "sampled": {"do_sample": True, "seed": 3, "temperature": 0.7, "top_k": 20},
    "nucleus": {"do_sample": True, "seed": 5, "top_p": 0.9, "min_p": 0.01, "repetition_penalty": 1.1},
    "penalty": {"repetition_penalty": 1.3},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("family", tiny.BUILDERS)
def test_they_are_the_hosts_rounds(same: Same, family: str, dtype: torch.dtype, way: str) -> None:
    target = tiny.model(family, dtype=dtype)
    vlm = tiny.pair(target, tiny.noised(target, 0.05))
    options = {"max_new_tokens": 24, **WAYS[way]}
    video = tiny.video(6)
    on_device = same(vlm, video, rounds="device", **options)
    on_host = same(vlm, video, rounds="host", **options)
    assert on_device.stats.on_host_because is None
    assert on_host.stats.on_host_because == "asked for"
    assert on_device.stats.rounds == on_host.stats.rounds
