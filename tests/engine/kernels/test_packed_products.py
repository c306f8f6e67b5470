"""Packed products: the same numbers, from copies made where there is room, used where asked for."""

from __future__ import annotations

import copy
import threading

import pytest
import torch
from torch import nn
from torch.nn.functional import linear

import tiny
from specvlm.engine.kernels import packed_products as module
from specvlm.engine.kernels.packed_products import PackedWeights, do_pack, pack

pytestmark = pytest.mark.skipif(not do_pack(torch.ops.mkldnn), reason="oneDNN has no products in bfloat16 for this CPU")


@pytest.fixture(autouse=True)
def no_model_is_small(monkeypatch):
    monkeypatch.setattr(module, "SMALL", 0)


@pytest.fixture
def calls(monkeypatch) -> list[torch.Size]:
    """The inputs of products with a packed weight."""
    seen, of = [], PackedWeights.of
    monkeypatch.setattr(PackedWeights, "of", lambda self, weight: _noted(of(self, weight), weight, seen))
    return seen


def _noted(packed, weight, seen):
    seen += [] if packed is None else [weight.shape]
    return packed


@pytest.mark.parametrize("num_rows", [1, 2, 4, 9, 26, 300])
@pytest.mark.parametrize("with_bias", [True, False])
def test_it_is_a_linear_layer(num_rows, with_bias, calls):
    layer, x = nn.Linear(896, 640, bias=with_bias).bfloat16(), torch.randn(1, num_rows, 896).bfloat16()
    weights = pack(layer)
    with torch.no_grad(), weights.products():
        ours = layer(x)
    theirs = layer(x)
    assert calls == [(640, 896)]
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    right = linear(x.double(), layer.weight.double(), layer.bias.double() if with_bias else None)
    assert (ours - right).abs().max() <= 1.01 * (theirs - right).abs().max()


def test_a_bias_may_be_a_column_of_something(calls):
    layer, x = nn.Linear(64, 8).bfloat16(), torch.randn(1, 3, 64).bfloat16()
    layer.bias = nn.Parameter(torch.randn(8, 3).bfloat16()[:, 0])
    assert not layer.bias.is_contiguous()
    with torch.no_grad(), pack(layer).products():
        torch.testing.assert_close(layer(x), linear(x, layer.weight, layer.bias.contiguous()))
    assert calls == [(8, 64)]


def test_only_inside_the_block_in_its_thread_and_with_the_weights_as_they_were(calls):
    known, other = nn.Linear(64, 8).bfloat16(), nn.Linear(64, 8).bfloat16()
    weights, x = pack(known), torch.randn(1, 3, 64).bfloat16()
    with torch.no_grad(), weights.products():
        known(x)
        other(x)
        thread = threading.Thread(target=known, args=(x,))
        thread.start()
        thread.join()
    known(x)
    assert calls == [(8, 64)]
    with torch.no_grad():
        known.weight.mul_(2)
        with weights.products():
            changed = known(x)
    assert len(calls) == 1
    torch.testing.assert_close(changed, known(x))


def test_a_tied_weight_is_packed_once(monkeypatch):
    seen = []
    rearranged = module._rearranged
    monkeypatch.setattr(module, "_rearranged", lambda ops, weight: seen.append(weight.shape) or rearranged(ops, weight))
    first, second = nn.Linear(64, 8).bfloat16(), nn.Linear(64, 8).bfloat16()
    second.weight = first.weight
    assert pack(nn.Sequential(first, second), first) is not None
    assert seen == [(8, 64)]


def test_it_is_left_alone_where_nothing_is_won_or_there_is_no_room(monkeypatch):
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64)).bfloat16()
    assert pack(model) is not None
    assert pack(nn.Sequential(model, nn.Linear(64, 64))) is None  # float32
    assert pack(model.to("meta")) is None
    model = nn.Linear(64, 64).bfloat16()
    monkeypatch.setattr(module, "free_memory", lambda: 4 * model.weight.nbytes - 1)
    assert pack(model) is None
    monkeypatch.setattr(module, "free_memory", lambda: 4 * model.weight.nbytes)
    assert pack(model) is not None
    monkeypatch.setattr(module, "SMALL", model.weight.nbytes + 1)
    assert pack(model) is None


@pytest.mark.parametrize("family", tiny.BUILDERS)
def test_a_draft_is_packed_and_says_the_same(family, calls):
    target = tiny.model(family, 0, dtype=torch.bfloat16)
    draft = tiny.noised(target, 0.02)
    vlm, film = tiny.pair(target, draft), tiny.film(8, 1)
    assert vlm.draft.decoder.packed
    assert not vlm.target.decoder.packed
    asked = {"do_sample": False, "max_new_tokens": 12, "pruning_ratio": 0.5, "plan": "fixed"}
    ours = vlm.generate(film, "what happens?", **asked)
    assert len(calls) >= 7 * ours.stats.num_draft_forwards
    vlm.draft.decoder._packed = None
    plain = vlm.generate(film, "what happens?", **asked)
    assert ours.token_ids == plain.token_ids


@pytest.mark.parametrize("how", ["merged", "moved", "replaced"])
def test_a_draft_that_was_changed_is_packed_anew(how, calls):
    """Merging an adapter writes through `.data`: neither the tensor nor its version tells of it."""
    target = tiny.model("llava_onevision", 0, dtype=torch.bfloat16)
    draft, twin = tiny.noised(target, 2.0), copy.deepcopy(target)
    vlm, film = tiny.pair(target, draft), tiny.film(8, 1)
    asked = {"do_sample": False, "max_new_tokens": 12, "pruning_ratio": 0.0, "plan": "fixed"}
    bad = vlm.generate(film, "what happens?", **asked)
    for path, layer in draft.named_modules():
        if type(layer) is nn.Linear:
            weight = twin.get_submodule(path).weight
            if how == "merged":
                layer.weight.data += weight.data - layer.weight.data
            elif how == "moved":
                layer.weight.data = weight.data.clone()
            else:
                layer.weight = nn.Parameter(weight.detach().clone())
    for mine, right in zip(draft.parameters(), twin.parameters(), strict=True):
        mine.data.copy_(right.data)
    calls.clear()
    good = vlm.generate(film, "what happens?", **asked)
    assert good.token_ids == bad.token_ids == vlm.autoregressive(film, "what happens?", **asked).token_ids
    assert len(calls) >= 7 * good.stats.num_draft_forwards
    assert bad.stats.num_accepted < good.stats.num_accepted == good.stats.num_tokens - 1 - good.stats.num_rounds


def test_what_is_packed_is_kept_when_an_adapter_is_added_beside_it():
    layer = nn.Sequential(nn.Linear(64, 64)).bfloat16()
    weights = pack(layer)
    assert weights is not None
    assert weights.still_true(layer)
    layer.append(nn.Linear(64, 8).bfloat16())
    assert weights.still_true(layer)
    layer.pop(0)
    assert not weights.still_true(layer)
