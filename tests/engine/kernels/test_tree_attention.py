"""Tree attention: what it promises on any device, and that torch can trace it. The kernels have a test of their own."""

from __future__ import annotations

from dataclasses import astuple, replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from engine.kernels.interpreted import Case, corners, grid, inputs, right, tolerance
from specvlm.engine.kernels.tree_attention import check, tree_attention

CASE = Case(64, 7, 4, 30, 9, "float32")


def names(case: Case) -> str:
    return "-".join(str(each) for each in astuple(case))


@pytest.mark.parametrize("case", [*grid(), *corners(), replace(CASE, dtype="float64")], ids=names)
def test_it_is_attention_to_what_each_row_sees(case):
    x = inputs(case)
    before = [each.clone() for each in astuple(x)[:-1]]
    output, wanted = tree_attention(*astuple(x)), right(x)
    assert (output.shape, output.dtype) == (x.query.shape, x.query.dtype)
    assert (output.double() - wanted).abs().max() <= (1e-13 if case.dtype == "float64" else tolerance(x))
    assert all(torch.equal(one, other.nan_to_num()) for one, other in zip(
        (each.nan_to_num() for each in before), astuple(x)[:-1], strict=True
    ))  # fmt: skip


@pytest.mark.parametrize("lost", ["a bit of the mask", "a length", "the scale", "the order of heads"])
def test_nothing_of_it_can_be_lost(lost):
    x = inputs(CASE)
    mask, (row, column) = x.mask.clone(), x.mask.nonzero()[0].tolist()
    mask[row, column] = False
    other = {
        "a bit of the mask": replace(x, mask=mask),
        "a length": replace(x, length=x.length - 1),
        "the scale": replace(x, scale=x.scale * 1.01),
        "the order of heads": replace(x, query=x.query.flip(1)),
    }[lost]
    assert (tree_attention(*astuple(other)).double() - right(x)).abs().max() > 100 * tolerance(x)


def test_a_length_that_cannot_be_is_cut():
    x = inputs(replace(CASE, room=0))
    everything = replace(x, length=torch.tensor([10**6]))
    all_of_it = replace(x, length=torch.tensor([x.key.shape[2]]))
    assert torch.equal(
        tree_attention(*astuple(everything)).nan_to_num(), tree_attention(*astuple(all_of_it)).nan_to_num()
    )
    none = replace(x, length=torch.tensor([-5], dtype=torch.int32))
    assert torch.equal(
        tree_attention(*astuple(none)), tree_attention(*astuple(replace(x, length=torch.tensor([0]))))
    )  # fmt: skip


@pytest.mark.parametrize("length", [torch.int32, torch.int64])
@pytest.mark.parametrize("case", [CASE, replace(CASE, dim=80, rows=1, tail=0, dtype="bfloat16")], ids=names)
def test_torch_may_trace_it(case, length):
    """Its schema is true, it mutates nothing, and the fake tensor has the real one's shape, dtype and strides."""
    x = inputs(case)
    x = replace(x, length=x.length.to(length))
    torch.library.opcheck(tree_attention, astuple(x), test_utils=("test_schema", "test_faketensor"))


def test_it_is_part_of_one_graph():
    x = inputs(CASE)

    def layer(*given):
        return tree_attention(*given[:-1], given[-1] * 2).transpose(1, 2).reshape(4, -1) * 3

    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(*astuple(x)), layer(*astuple(x)), rtol=0, atol=0)


def test_a_gpu_that_isnt_there_gets_no_kernel():
    """What a fake CUDA tensor says is what a graph is planned by: laid out as [1, rows, heads, dim]."""
    with FakeTensorMode():
        query = torch.empty(1, 28, 26, 128, dtype=torch.bfloat16, device="cuda")
        key = torch.empty(1, 4, 12_500, 128, dtype=torch.bfloat16, device="cuda")
        length, mask = (
            torch.empty(shape, dtype=dtype, device="cuda")
            for shape, dtype in (((1,), torch.int64), ((26, 40), torch.bool))
        )
        output = tree_attention(query, key, key, length, mask, 0.1)
    assert (output.shape, output.dtype, output.device.type) == (query.shape, query.dtype, "cuda")
    assert output.transpose(1, 2).is_contiguous()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: replace(x, query=x.query[:, :13]), "13"),
        (lambda x: replace(x, query=x.query.half()), "float16"),
        (lambda x: replace(x, length=x.length.float()), "float32"),
        (lambda x: replace(x, length=x.length.repeat(2)), r"\(2,\)"),
        (lambda x: replace(x, mask=x.mask.float()), "float32"),
        (lambda x: replace(x, mask=x.mask[:3]), r"\[4, tail\]"),
        (lambda x: replace(x, value=x.value[:, :, :-1]), "value"),
        (lambda x: replace(x, scale=0.0), "0.0"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        check(*astuple(change(inputs(CASE))))
