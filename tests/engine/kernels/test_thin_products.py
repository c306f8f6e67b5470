"""Thin products: another order of the same sums, and only where they were asked for."""

from __future__ import annotations

import threading

import pytest
import torch
from torch.nn.functional import linear

from specvlm.engine.kernels import thin_products as module
from specvlm.engine.kernels.thin_products import TILES, VECTORS, Kernel, thin_linear, thin_products

CPU = torch.device("cpu")
WIDE = 2048


@pytest.fixture(autouse=True, params=[VECTORS, TILES], ids=["vectors", "tiles"])
def kernel(monkeypatch, request) -> Kernel:
    """Whatever CPU this is, it is taken for one of each kind."""
    monkeypatch.setattr(module, "kernel_here", lambda: request.param)
    return request.param


@pytest.mark.parametrize("num_rows", [1, 2, 9, 15, 16, 17, 26, 32, 64])
@pytest.mark.parametrize("with_bias", [True, False])
def test_it_is_a_linear_layer(num_rows, with_bias, kernel):
    x, weight = torch.randn(1, num_rows, 48, dtype=torch.float64), torch.randn(40, 48, dtype=torch.float64)
    bias = torch.randn(40, dtype=torch.float64) if with_bias else None
    ours = thin_linear(x, weight, bias, kernel.block)
    torch.testing.assert_close(ours, linear(x, weight, bias), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("with_bias", [True, False])
def test_in_bfloat16_it_is_as_exact_as_torch(with_bias, kernel):
    """With a bias, too: added to sums that were rounded already it would cost half as much error again."""
    x, weight = torch.randn(16, 4096).bfloat16(), torch.randn(512, 4096).bfloat16()
    bias = 100 * torch.randn(512).bfloat16() if with_bias else None
    right = linear(x.double(), weight.double(), None if bias is None else bias.double())
    ours, theirs = (
        (product.double() - right).abs().mean()
        for product in (thin_linear(x, weight, bias, kernel.block), linear(x, weight, bias))
    )
    assert ours <= 1.01 * theirs


@pytest.fixture
def calls(monkeypatch) -> list[int]:
    """The numbers of rows that went the fast way."""
    seen = []
    monkeypatch.setattr(module, "thin_linear", lambda x, w, bias, block: seen.append(x.shape[-2]) or linear(x, w, bias))
    return seen


def test_wide_layers_go_the_fast_way_inside_the_block_and_nowhere_else(calls):
    wide, narrow = torch.nn.Linear(WIDE, 8).bfloat16(), torch.nn.Linear(64, 8).bfloat16()
    x = torch.randn(1, 16, WIDE).bfloat16()
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
    [(16, torch.float32, CPU), (16, torch.float16, CPU), (16, torch.bfloat16, torch.device("cuda"))],
)
def test_where_there_is_nothing_to_win_torch_is_left_alone(calls, num_rows, dtype, device):
    with thin_products(num_rows, dtype, device):
        torch.nn.Linear(WIDE, 8)(torch.randn(num_rows, WIDE))
    assert calls == []


def test_it_is_for_few_rows(calls, kernel):
    layer = torch.nn.Linear(WIDE, 8).bfloat16()
    for num_rows in (kernel.rows[0], kernel.rows[0] - 1, kernel.rows[-1], kernel.rows[-1] + 1):
        with thin_products(num_rows, torch.bfloat16, CPU):
            layer(torch.randn(num_rows, WIDE).bfloat16())
    assert calls == [kernel.rows[0], kernel.rows[-1]]


def test_other_cpus_have_no_need(monkeypatch, calls):
    monkeypatch.setattr(module, "kernel_here", lambda: None)
    with thin_products(16, torch.bfloat16, CPU):
        torch.nn.Linear(WIDE, 8).bfloat16()(torch.randn(16, WIDE).bfloat16())
    assert calls == []
