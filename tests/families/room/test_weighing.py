"""What a checkpoint weighs, told from its config: beside the weights themselves, and beside published sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText, Qwen2_5_VLConfig

import specvlm
import tiny
from specvlm.families.checkpoints.keywords import Keywords
from specvlm.families.loading import Checkpoint
from specvlm.families.room.weighing import Weight, together, weigh

SHAPES = {
    "32B": (5120, 64, 40, 8, 27648, 3456),
    "7B": (3584, 28, 28, 4, 18944, 3420),
}
"""Of Qwen2.5-VL: hidden size, layers, heads, heads of keys, inner size; inner size of the tower."""


def config_of(size: str) -> Qwen2_5_VLConfig:
    hidden, layers, heads, kv_heads, inner, tower_inner = SHAPES[size]
    text = {
        "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads, "vocab_size": 152064,
        "num_key_value_heads": kv_heads, "intermediate_size": inner, "max_window_layers": layers,
    }  # fmt: skip
    vision = {
        "hidden_size": 1280, "out_hidden_size": hidden, "depth": 32, "num_heads": 16,
        "intermediate_size": tower_inner, "fullatt_block_indexes": [7, 15, 23, 31],
    }  # fmt: skip
    return Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=False, dtype="bfloat16")


def found(folder: Path | str, **given: Any) -> Weight:
    weight = weigh(Checkpoint.find(folder, Keywords.of("target_kwargs", given)))
    assert weight is not None
    return weight


def parameters(size: str) -> int:
    """By hand, from the shapes alone."""
    hidden, layers, heads, kv_heads, inner, tower_inner = SHAPES[size]
    dim = hidden // heads
    attention = 2 * hidden * hidden + 2 * hidden * kv_heads * dim + (heads + 2 * kv_heads) * dim
    text = layers * (attention + 3 * hidden * inner + 2 * hidden) + 2 * 152064 * hidden + hidden
    block = 4 * 1280 * 1280 + 4 * 1280 + 3 * 1280 * tower_inner + 2 * tower_inner + 1280 + 2 * 1280
    merger = 1280 + 5120 * 5120 + 5120 + 5120 * hidden + hidden
    return text + 32 * block + 3 * 2 * 14 * 14 * 1280 + merger


@pytest.mark.parametrize(("size", "billions"), [("32B", 33.45), ("7B", 8.29)])
def test_a_large_shape_is_weighed_by_its_config(tmp_path, size, billions):
    config_of(size).save_pretrained(tmp_path)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config_of(size), dtype=torch.bfloat16)
    counted = sum(weight.numel() for weight in model.parameters())
    assert counted == parameters(size)
    assert counted / 1e9 == pytest.approx(billions, rel=0.001)  # as its page has it
    weight = found(tmp_path)
    assert weight.weights == pytest.approx(2 * counted, rel=0.03)
    assert weight.dtype == torch.bfloat16
    assert found(tmp_path, dtype="float32").weights == pytest.approx(4 * counted, rel=0.03)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", tiny.BUILDERS)
def test_every_family_weighs_what_it_weighs_in_memory(tmp_path, family, tied):
    model = tiny.model(family, tied=tied)
    model.save_pretrained(tmp_path)
    tiny.processor(family).save_pretrained(tmp_path)
    weight = found(tmp_path)
    loaded = specvlm.load(tmp_path).target
    assert weight.weights == sum(each.nbytes for each in (*loaded.model.parameters(), *loaded.model.buffers()))
    assert weight.tower_weights == sum(
        each.nbytes for part in loaded.tower for each in (*part.parameters(), *part.buffers())
    )
    cache = loaded.decoder.new_cache(100)
    loaded.decoder.step(torch.tensor([1]), torch.zeros(1, 1, dtype=torch.long), None, cache)
    layers: Any = cache.layers
    assert 100 * weight.token == sum(
        layer.keys[:, :, :100].nbytes + layer.values[:, :, :100].nbytes for layer in layers
    )


@pytest.mark.parametrize("name", ["nf4", "int8", "float8"])
def test_quantised_weights_are_weighed_too(tmp_path, name):
    tiny.model("qwen2_5_vl", hidden=512, heads=64, kv_heads=64, layers=2).save_pretrained(tmp_path)
    tiny.processor("qwen2_5_vl").save_pretrained(tmp_path)
    weight, whole = found(tmp_path, quantization_config=name), found(tmp_path)
    loaded = specvlm.load(tmp_path, target_kwargs={"quantization_config": name}).target.model
    assert weight.quantised
    assert not whole.quantised
    assert weight.weights < 0.7 * whole.weights
    assert weight.weights == pytest.approx(sum(map(size_of, (*loaded.parameters(), *loaded.buffers()))), rel=0.03)


def size_of(tensor: Any) -> int:
    """With the scales, wherever a library keeps them."""
    if hasattr(tensor, "__tensor_flatten__"):
        return sum(getattr(tensor, name).nbytes for name in tensor.__tensor_flatten__()[0])
    state = getattr(tensor, "quant_state", None)
    scales = 0 if state is None else state.absmax.nbytes + (state.state2.absmax.nbytes if state.nested else 0)
    return tensor.nbytes + scales


def test_what_cannot_be_built_is_not_weighed(tmp_path):
    config = tiny.llava_model(0, layers=1).config
    config.text_config.hidden_act = "no such function"
    config.save_pretrained(tmp_path)
    assert weigh(Checkpoint.find(tmp_path, Keywords.of("target_kwargs", None))) is None


def test_no_memory_is_taken_for_it(tmp_path):
    config = tiny.llava_model(0, layers=1).config
    config.text_config.vocab_size = 2**30
    config.save_pretrained(tmp_path)
    assert found(tmp_path).weights > 2**36


def test_a_tower_that_may_be_shared_counts_once_at_the_least():
    tower = (((4, 4), torch.float32),)
    one = Weight("one", torch.float32, 100, 2, tower, 30)
    two = Weight("two", torch.float32, 50, 1, tower, 30)
    other = Weight("other", torch.float32, 50, 1, (), 0)
    assert together([one, two], 10, once=False) == 100 + 50 + 10 * 3
    assert together([one, two], 10, once=True) == 100 + 50 + 10 * 3 - 30
    assert together([one, other], 10, once=True) == together([one, other], 10, once=False) == 180
    assert together([one], 0, once=True) == 100
