"""Torch's private operations are used if they do what they did: stand-ins say what some release might make of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import linear

from specvlm.engine.kernels import packed_products as module
from specvlm.engine.kernels.packed_products import do_pack, pack


@pytest.fixture(autouse=True)
def no_model_is_small(monkeypatch):
    monkeypatch.setattr(module, "SMALL", 0)


def rearranged(weight, rows):
    return weight.T.contiguous()


def product(x, packed, bias, attribute, scalars, algorithm):
    assert (attribute, scalars, algorithm) == ("none", [], "")
    return linear(x, packed.T, bias)


def raising(error):
    def fail(*args):
        raise error

    return fail


class Ops:
    """As they are, but for those that are given; None: it is gone."""

    def __init__(self, supported=lambda: True, pack=rearranged, multiply=product):
        names = ("_is_mkldnn_bf16_supported", "_reorder_linear_weight", "_linear_pointwise")
        for name, operation in zip(names, (supported, pack, multiply), strict=True):
            if operation is not None:
                setattr(self, name, operation)


def test_those_that_do_what_they_did_are_used_and_tried_once():
    seen = []
    ops = Ops(multiply=lambda x, *rest: seen.append(x.shape) or product(x, *rest))
    layer, x = nn.Linear(64, 8).bfloat16(), torch.randn(1, 3, 64).bfloat16()
    weights = pack(layer, ops=ops)
    assert seen
    seen.clear()
    assert pack(layer, ops=ops) is not None
    assert not seen
    with torch.no_grad(), weights.products():
        packed = layer(x)
    assert seen == [(1, 3, 64)]
    torch.testing.assert_close(packed, layer(x))


CHANGED = {
    "no products": Ops(multiply=None),
    "no packing": Ops(pack=None),
    "nobody says on which CPUs": Ops(supported=None),
    "not on this CPU": Ops(supported=lambda: False),
    "products raise": Ops(multiply=raising(RuntimeError("mkldnn_linear: not built"))),
    "packing raises": Ops(pack=raising(NotImplementedError("no such kernel"))),
    "products with fewer arguments": Ops(multiply=lambda x, packed: x),
    "packing with one more": Ops(pack=lambda weight, rows, algorithm: weight),
    "no tensor": Ops(multiply=lambda *given: None),
    "another dtype": Ops(multiply=lambda *given: product(*given).float()),
    "another shape": Ops(multiply=lambda *given: product(*given)[..., :-1]),
    "without the bias": Ops(multiply=lambda x, packed, bias, *rest: product(x, packed, None, *rest)),
    "a little too much": Ops(multiply=lambda *given: product(*given) * 1.01),
    "right for the first row": Ops(multiply=lambda x, *rest: product(x[:1], *rest).expand(len(x), -1)),
    "not a number": Ops(multiply=lambda *given: product(*given) * float("nan")),
    "rows for columns": Ops(pack=lambda weight, rows: weight.reshape(weight.shape[::-1])),
}


@pytest.mark.parametrize("how", CHANGED)
def test_those_that_are_gone_or_changed_leave_products_to_torch(how):
    assert not do_pack(CHANGED[how])
    assert pack(nn.Linear(64, 8).bfloat16(), ops=CHANGED[how]) is None
