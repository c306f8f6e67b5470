"""Thin attention: the same numbers as torch's own, under every mask of a tree."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

import tiny
from specvlm.engine.attention import folded_mask
from specvlm.engine.kernels import thin_attention as module
from specvlm.engine.kernels.thin_attention import hiding_columns, pays, thin_attention
from specvlm.families import decoder

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def a_cpu_that_needs_it(monkeypatch):
    monkeypatch.setattr(module, "lacks_tiles", lambda: True)


def tree(rows: int, settled: int) -> torch.Tensor:
    """Each row sees what is settled, itself, and some of those in front of it."""
    mask = torch.ones(rows, settled + rows, dtype=torch.bool)
    mask[:, settled:] = torch.rand(rows, rows).tril_(-1) > 0.5
    mask[:, settled:] |= torch.eye(rows, dtype=torch.bool)
    return mask


@pytest.mark.parametrize("settled", [0, 1, 50, 700])
@pytest.mark.parametrize("rows", [1, 8, 26])
@pytest.mark.parametrize("groups", [1, 7])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_it_is_attention(settled, rows, groups, scale):
    mask, length = tree(rows, settled), settled + rows
    query, key, value = (torch.randn(1, 2, count, 16).bfloat16() for count in (groups * rows, length, length))
    last = folded_mask(hiding_columns(mask), groups, torch.float32)
    ours = thin_attention(query, key, value, last, scale=scale)
    assert (ours.shape, ours.dtype) == (query.shape, torch.bfloat16)
    whole = folded_mask(mask, groups, torch.float64)
    right = scaled_dot_product_attention(query.double(), key.double(), value.double(), whole, scale=scale)
    assert (ours - right).abs().max() <= torch.finfo(torch.bfloat16).eps * value.abs().max()
    blind = thin_attention(query, key, value, None, scale=scale)
    assert rows == 1 or not torch.equal(ours, blind)


def test_only_columns_that_hide_something_are_masked():
    assert hiding_columns(torch.ones(3, 9, dtype=torch.bool)).shape == (3, 0)
    mask = tree(4, 30)
    assert torch.equal(hiding_columns(mask), mask[:, 30:])
    mask[2, 5] = False
    assert torch.equal(hiding_columns(mask), mask[:, 5:])


@pytest.mark.parametrize(
    ("rows", "dtype", "device"),
    [(7, torch.bfloat16, CPU), (65, torch.bfloat16, CPU), (16, torch.float32, CPU), (16, torch.bfloat16, "cuda")],
)
def test_elsewhere_torch_does_it(rows, dtype, device):
    assert not pays(rows, dtype, torch.device(device))


def test_with_tiles_torch_does_it(monkeypatch):
    assert pays(16, torch.bfloat16, CPU)
    monkeypatch.setattr(module, "lacks_tiles", lambda: False)
    assert not pays(16, torch.bfloat16, CPU)


@pytest.mark.parametrize("family", tiny.BUILDERS)
def test_a_forward_over_a_tree_says_the_same(family, monkeypatch):
    language = tiny.pair(tiny.model(family, 0, dtype=torch.bfloat16), None).target.decoder
    said, rows = [], 12
    tokens, places = torch.arange(rows), torch.arange(rows)[None]
    mask, calls = tree(rows, 20), []
    monkeypatch.setattr(
        decoder, "thin_attention", lambda *args, **more: calls.append(1) or thin_attention(*args, **more)
    )
    for thin in (True, False):
        monkeypatch.setattr(module, "lacks_tiles", lambda thin=thin: thin)
        cache = language.new_cache(64)
        language.step(torch.arange(20), torch.arange(20)[None], torch.ones(20, 20, dtype=torch.bool).tril_(), cache)
        calls.clear()
        said.append(language.step(tokens, 20 + places, mask, cache).float())
        assert bool(calls) == thin
    torch.testing.assert_close(*said, rtol=0.05, atol=0.05 * said[0].abs().max().item())
