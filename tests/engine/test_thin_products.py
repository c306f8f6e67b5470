"""Thin products: another order of the same sums, and only where they were asked for."""

from __future__ import annotations

import threading

import pytest
import torch
from torch.nn.functional import linear

from specvlm.engine import thin_products as module
from specvlm.engine.thin_products import ROWS, thin_linear, thin_products

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def a_cpu_that_needs_it(monkeypatch):
    monkeypatch.setattr(module, "lacks_tiles", lambda: True)


@pytest.mark.parametrize("num_rows", [1, 9, 15, 16, 17, 26, 32])
@pytest.mark.parametrize("with_bias", [True, False])
def test_it_is_a_linear_layer(num_rows, with_bias):
    x, weight = torch.randn(1, num_rows, 48, dtype=torch.float64), torch.randn(40, 48, dtype=torch.float64)
    bias = torch.randn(40, dtype=torch.float64) if with_bias else None
    torch.testing.assert_close(thin_linear(x, weight, bias), linear(x, weight, bias), rtol=1e-12, atol=1e-12)


def test_in_bfloat16_it_is_as_exact_as_torch():
    x, weight = torch.randn(16, 4096).bfloat16(), torch.randn(512, 4096).bfloat16()
    right = linear(x.double(), weight.double())
    ours, theirs = ((product.double() - right).abs().max() for product in (thin_linear(x, weight), linear(x, weight)))
    assert ours <= 1.01 * theirs


@pytest.fixture
def calls(monkeypatch) -> list[int]:
    """The numbers of rows that went the fast way."""
    seen = []
    monkeypatch.setattr(module, "thin_linear", lambda x, *rest: seen.append(x.shape[-2]) or linear(x, *rest))
    return seen


def test_wide_layers_go_the_fast_way_inside_the_block_and_nowhere_else(calls):
    wide, narrow = torch.nn.Linear(module.NARROW, 8).bfloat16(), torch.nn.Linear(64, 8).bfloat16()
    x = torch.randn(1, 16, module.NARROW).bfloat16()
    with thin_products(16, torch.bfloat16, CPU):
        wide(x)
        narrow(x[..., :64])
        thread = threading.Thread(target=wide, args=(x,))
        thread.start()
        thread.join()
    wide(x)
    assert calls == [16]


@pytest.mark.parametrize(
    ("num_rows", "dtype", "device"),
    [(ROWS[0] - 1, torch.bfloat16, CPU), (ROWS[-1] + 1, torch.bfloat16, CPU), (16, torch.float32, CPU)]
    + [(16, torch.float16, CPU), (16, torch.bfloat16, torch.device("cuda"))],
)
def test_where_there_is_nothing_to_win_torch_is_left_alone(calls, num_rows, dtype, device):
    with thin_products(num_rows, dtype, device):
        torch.nn.Linear(module.NARROW, 8)(torch.randn(num_rows, module.NARROW))
    assert calls == []


def test_cpus_with_tiles_have_no_need(monkeypatch, calls):
    monkeypatch.setattr(module, "lacks_tiles", lambda: False)
    with thin_products(16, torch.bfloat16, CPU):
        torch.nn.Linear(module.NARROW, 8).bfloat16()(torch.randn(16, module.NARROW).bfloat16())
    assert calls == []
