"""attention_forward and ScoreRecorder against attention written out by hand, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from specvlm.engine.attention import (
    ScoreRecorder,
    attention_forward,
    attention_in_place,
    causal_mask,
    folded_mask,
    seen_by_each,
    sight,
    without_cudnn,
)

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 2e-2, torch.float16: 2e-3}
HEADS = [(4, 4), (4, 2), (7, 1), (6, 3), (1, 1)]
"""(query heads, K/V heads): groups of 1, 2 and 7."""
ROWS = [(1, 1), (1, 9), (3, 9), (9, 9), (26, 40)]
"""(rows, length of the cache)."""
DIM = 8


def attention_of(layer: int) -> torch.nn.Module:
    """As transformers makes them: an attention module knows the number of its layer."""
    made = torch.nn.Identity()
    made.layer_idx = layer
    return made


module = attention_of(0)


def inputs(heads: int, kv_heads: int, rows: int, length: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1000 * heads + 100 * kv_heads + 10 * rows + length)

    def draw(num_heads: int, num_rows: int) -> Tensor:
        return torch.randn(1, num_heads, num_rows, DIM, generator=generator, dtype=torch.float64).to(dtype)

    return draw(heads, rows), draw(kv_heads, length), draw(kv_heads, length)


def weights_by_hand(query: Tensor, key: Tensor, bias: Tensor, scaling: float | None = None) -> Tensor:
    """Attention weights [heads, rows, length] in float64; query head h reads K/V head h // group."""
    group = query.shape[1] // key.shape[1]
    scaling = 1 / math.sqrt(DIM) if scaling is None else scaling
    logits = [
        query[0, head].double() @ key[0, head // group].double().T * scaling + bias.expand(query.shape[1], -1, -1)[head]
        for head in range(query.shape[1])
    ]
    return torch.stack(logits).softmax(-1)


def by_hand(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, scaling: float | None = None) -> Tensor:
    """[1, rows, heads, dim], as transformers wants it."""
    weights, group = weights_by_hand(query, key, bias, scaling), query.shape[1] // key.shape[1]
    heads = [weights[head] @ value[0, head // group].double() for head in range(query.shape[1])]
    return torch.stack(heads, dim=1)[None]


def bias_of(mask: Tensor) -> Tensor:
    return torch.zeros(mask.shape, dtype=torch.float64).masked_fill(~mask, float("-inf"))


def tree_mask(rows: int, length: int) -> Tensor:
    """Each row sees what was cached before, itself, and every other row in front of it."""
    mask = torch.zeros(rows, length, dtype=torch.bool)
    mask[:, : length - rows] = True
    for row in range(rows):
        mask[row, length - rows + row % 2 : length - rows + row + 1 : 2] = True
        mask[row, length - rows + row] = True
    return mask


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("heads", "kv_heads"), HEADS)
@pytest.mark.parametrize(("rows", "length"), ROWS)
def test_it_is_softmax_attention_under_every_kind_of_mask(dtype, heads, kv_heads, rows, length):
    query, key, value = inputs(heads, kv_heads, rows, length, dtype)
    mask, causal = tree_mask(rows, length), causal_mask(rows, length, torch.device("cpu"))
    kinds = {
        "causal": (None, bias_of(causal)),
        "folded": (folded_mask(mask, heads // kv_heads, dtype), bias_of(mask)),
        "alone": (None, bias_of(mask)),
    }
    for name, (given, bias) in kinds.items():
        alone = seen_by_each(mask) if name == "alone" else None
        output, weights = attention_forward(module, query, key, value, mask=given, alone=alone)
        assert weights is None
        assert output.shape == (1, rows, heads, DIM)
        assert output.dtype == dtype
        assert output.is_contiguous()
        expected = by_hand(query, key, value, bias)
        assert torch.allclose(output.double(), expected, rtol=0, atol=TOLERANCE[dtype]), name


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("heads", "kv_heads"), HEADS)
@pytest.mark.parametrize(("rows", "length"), ROWS)
def test_a_row_that_attends_alone_gets_what_stock_sdpa_gives_a_token_of_plain_decoding(
    dtype, heads, kv_heads, rows, length
):
    """To the bit, whatever else stands in the cache."""
    module.num_key_value_groups = heads // kv_heads
    query, key, value = inputs(heads, kv_heads, rows, length, dtype)
    mask = tree_mask(rows, length)
    output, _ = attention_forward(module, query, key, value, alone=seen_by_each(mask))
    for row in range(rows):
        own = (query[:, :, row : row + 1], key[:, :, mask[row]], value[:, :, mask[row]])
        right, _ = sdpa_attention_forward(module, *own, attention_mask=None)
        assert torch.equal(output[:, row : row + 1], right)


def test_what_a_row_sees_is_a_slice_where_nothing_is_left_out():
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 1, 1], [1, 1, 1, 1]], dtype=torch.bool)
    first, second, third, last = seen_by_each(mask)
    assert [first, second, third.tolist(), last] == [slice(2), slice(3), [0, 2, 3], slice(4)]


def test_of_what_is_before_a_masks_columns_each_row_sees_all():
    mask = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 0, 1]], dtype=torch.bool)
    whole = torch.cat([torch.ones(3, 4, dtype=torch.bool), mask], dim=1)
    assert torch.equal(folded_mask(mask, 2, torch.float32, 7), folded_mask(whole, 2, torch.float32))
    first, second, last = seen_by_each(mask, 7)
    assert [first, second, last.tolist()] == [slice(5), slice(6), [0, 1, 2, 3, 4, 6]]


@pytest.mark.parametrize(("rows", "length"), ROWS)
def test_a_mask_that_transformers_made_is_not_looked_at(rows, length):
    """It is of the kind that the model's own attention wants: additive, blocks, or nothing at all."""
    query, key, value = inputs(4, 2, rows, length, torch.float64)
    right, _ = attention_forward(module, query, key, value)
    for made in (None, torch.zeros(1, 1, rows, length), torch.empty(1, 1, 0, 0), object()):
        assert torch.equal(attention_forward(module, query, key, value, made)[0], right)


@pytest.mark.parametrize("given", [None, "folded"])
def test_the_models_own_scaling_is_used(given):
    query, key, value = inputs(4, 2, 3, 9, torch.float64)
    mask = causal_mask(3, 9, torch.device("cpu"))
    additive = None if given is None else folded_mask(mask, 2, torch.float64)
    output, _ = attention_forward(module, query, key, value, mask=additive, scaling=0.7)
    assert torch.allclose(output, by_hand(query, key, value, bias_of(mask), 0.7), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("heads", "kv_heads"), HEADS)
@pytest.mark.parametrize(("rows", "length"), ROWS)
def test_scores_are_the_mean_attention_over_layers_heads_and_queries(dtype, heads, kv_heads, rows, length):
    columns = torch.arange(length)[1 if length > 1 else 0 :: 3]
    recorder, expected = ScoreRecorder(columns), []
    for layer in range(3):
        query, key, value = inputs(heads, kv_heads, rows, length, dtype)
        query = query * (layer + 1)
        attention_forward(attention_of(layer), query, key, value, scaling=0.3, recorder=recorder)
        causal = bias_of(causal_mask(rows, length, torch.device("cpu")))
        expected.append(weights_by_hand(query, key, causal, 0.3))
    scores = recorder.scores()
    assert scores.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    mean = torch.stack(expected).mean((0, 1, 2))[columns]
    assert torch.allclose(scores.double(), mean, rtol=0, atol=1e-12 if dtype == torch.float64 else 1e-6)
    assert recorder.seconds > 0


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_a_recorder_changes_no_bit_of_the_result(dtype):
    for heads, kv_heads in HEADS:
        for rows, length in ROWS:
            query, key, value = inputs(heads, kv_heads, rows, length, dtype)
            copies = query.clone(), key.clone(), value.clone()
            plain, _ = attention_forward(module, query, key, value)
            watched, _ = attention_forward(
                module, query, key, value, None, recorder=ScoreRecorder(torch.arange(length))
            )
            assert torch.equal(plain, watched)
            assert all(map(torch.equal, copies, (query, key, value)))


@pytest.mark.parametrize("chunk", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("first_row", [2, 3, 8])
def test_only_the_text_behind_the_video_is_watched_whatever_pieces_it_comes_in(chunk, first_row):
    length = 9
    query, key, value = inputs(4, 2, length, length, torch.float64)
    recorder = ScoreRecorder(torch.arange(3), first_row)
    for start in range(0, length, chunk):
        end = min(start + chunk, length)
        attention_forward(module, query[:, :, start:end], key[:, :, :end], value[:, :, :end], None, recorder=recorder)
    weights = weights_by_hand(query, key, bias_of(causal_mask(length, length, torch.device("cpu"))))
    assert torch.allclose(recorder.scores(), weights[:, first_row:].mean((0, 1))[:3], rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("heads", "kv_heads"), HEADS)
@pytest.mark.parametrize("chunk", [2, 9])
def test_scores_per_head_are_what_each_layer_and_group_of_query_heads_looked_at(dtype, heads, kv_heads, chunk):
    """And watching the heads one by one changes no bit of the scores of them all."""
    length, first_row, columns = 9, 6, torch.tensor([1, 2, 5])
    recorder, plain = ScoreRecorder(columns, first_row, per_head=True), ScoreRecorder(columns, first_row)
    causal = bias_of(causal_mask(length, length, torch.device("cpu")))
    layers, expected = [], []
    for layer in range(3):
        query, key, value = inputs(heads, kv_heads, length, length, dtype)
        layers.append((query * (layer + 1), key, value))
        weights = weights_by_hand(layers[-1][0], key, causal)[:, first_row:, columns]
        groups = [weights[head : head + heads // kv_heads] for head in range(0, heads, heads // kv_heads)]
        expected.append(torch.stack([group.mean((0, 1)) for group in groups]))
    for start in range(0, length, chunk):  # as a prompt that is read in pieces: all layers, piece by piece
        end = min(start + chunk, length)
        for layer, (query, key, value) in enumerate(layers):
            for watching in (recorder, plain):
                piece = query[:, :, start:end], key[:, :, :end], value[:, :, :end]
                attention_forward(attention_of(layer), *piece, None, recorder=watching)
    by_head = recorder.scores_per_head()
    assert by_head.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-6
    assert torch.allclose(by_head.double(), torch.stack(expected), rtol=0, atol=tolerance)
    assert torch.allclose(by_head.mean((0, 1)), recorder.scores(), rtol=0, atol=tolerance)
    assert torch.equal(recorder.scores(), plain.scores())


def test_scores_that_nobody_recorded_are_an_error():
    with pytest.raises(ValueError, match="no attention was recorded"):
        ScoreRecorder(torch.tensor([0])).scores()
    recorder = ScoreRecorder(torch.tensor([0]))
    attention_forward(module, *inputs(4, 2, 3, 9, torch.float32), None, recorder=recorder)
    with pytest.raises(ValueError, match="per_head=True"):
        recorder.scores_per_head()


def test_without_a_video_there_is_nothing_to_score():
    recorder = ScoreRecorder(torch.empty(0, dtype=torch.long))
    query, key, value = inputs(4, 2, 3, 9, torch.float32)
    attention_forward(module, query, key, value, None, recorder=recorder)
    assert recorder.scores().shape == (0,)


@pytest.mark.parametrize(("rows", "length"), ROWS)
def test_a_causal_mask_lets_each_of_the_last_rows_see_up_to_itself(rows, length):
    mask = causal_mask(rows, length, torch.device("cpu"))
    assert mask.tolist() == [[place <= length - rows + row for place in range(length)] for row in range(rows)]


def test_a_folded_mask_repeats_the_rows_for_each_query_head_of_a_group():
    mask = torch.tensor([[True, False, False], [True, True, False]])
    folded = folded_mask(mask, 3, torch.float32)
    infinity = float("inf")
    assert folded.tolist() == [[[[0, -infinity, -infinity], [0, 0, -infinity]] * 3]]


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 2), (7, 1), (3, 3)])
@pytest.mark.parametrize("length", [0, 1, 37])
def test_in_place_it_is_the_same_attention(heads: int, kv_heads: int, length: int) -> None:
    """Over a buffer whose unused places hold anything, by a length that only a tensor knows."""
    rows, capacity, dim = 5, 64, 8
    torch.manual_seed(0)
    query, tail = torch.randn(1, heads, rows, dim), torch.rand(rows, rows).gt(0.5) | torch.eye(rows, dtype=torch.bool)
    key, value = torch.randn(2, 1, kv_heads, capacity, dim)
    used = torch.tensor([length])
    mask = folded_mask(sight(used, tail, capacity), heads // kv_heads, query.dtype)
    masked, _ = attention_forward(module, query, key, value, mask=mask)
    key[:, :, length + rows :], value[:, :, length + rows :] = float("nan"), float("nan")
    in_place, _ = attention_in_place(module, query, key, value, length=used, tail=tail)
    torch.testing.assert_close(in_place, masked)
    by_hand = sight(used, tail, capacity)
    assert by_hand[:, :length].all()
    assert torch.equal(by_hand[:, length : length + rows], tail)
    assert not by_hand[:, length + rows :].any()


def test_cudnn_is_left_out_on_gpus_alone_and_the_switch_put_back():
    before = torch.backends.cuda.cudnn_sdp_enabled()
    with without_cudnn(torch.device("cpu")):
        assert torch.backends.cuda.cudnn_sdp_enabled() == before
    with without_cudnn(torch.device("cuda")):
        assert not torch.backends.cuda.cudnn_sdp_enabled()
        assert torch.backends.cuda.flash_sdp_enabled()
    assert torch.backends.cuda.cudnn_sdp_enabled() == before
