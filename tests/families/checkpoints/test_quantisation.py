"""Quantised as they are read, by every package that is here: answers are stock generate's, or the kind is refused.

The pocket pair is asked, which was trained: its best two tokens are seldom as near to each other as a random model's.
tests/parity/test_dependent_rows.py looks at single layers, and at kinds that can't be loaded so.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import torchao.quantization as torchao
from torch import nn
from transformers import BitsAndBytesConfig, FineGrainedFP8Config, TorchAoConfig

import specvlm
import tiny
from specvlm import pocket
from specvlm.errors import ModelError, OptionError
from specvlm.families.checkpoints.quantisation import BY_NAME, require_name
from specvlm.names import Quantization

pytestmark = [
    pytest.mark.filterwarnings("ignore:MatMul8bitLt. inputs will be cast"),
    pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor"),
]

QUESTION = "Describe the video in detail."
ASKED = {"max_new_tokens": 32, "do_sample": False}

WEIGHTS_ALONE: dict[str, Callable[[], Any]] = {
    **{name: lambda name=name: name for name in BY_NAME},
    "nf4, tower and all": lambda: BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4"),
    "fp4": lambda: BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="fp4"),
    "int8, tower and all": lambda: TorchAoConfig(torchao.Int8WeightOnlyConfig()),
    "int4": lambda: TorchAoConfig(torchao.IntxWeightOnlyConfig(weight_dtype=torch.int4)),
}

ACTIVATIONS: dict[str, tuple[Callable[[], Any], str, tuple[str, ...]]] = {
    "LLM.int8()": (
        lambda: BitsAndBytesConfig(load_in_8bit=True),
        "makes other numbers of a row when other rows are beside it",
        ("float32", "bfloat16"),
    ),
    "int8 rows": (
        lambda: BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=0.0),
        "rounds what it reads to so few steps",
        ("float32",),
    ),
    "int8 activations": (
        lambda: TorchAoConfig(torchao.Int8DynamicActivationInt8WeightConfig()),
        "rounds what it reads to so few steps",
        ("float32",),
    ),
}
"""With what is said of each, and the dtypes in which it is."""


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    return pocket.demo_video(tmp_path_factory.mktemp("film") / "film.mp4", 1)


@pytest.mark.part(3)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", WEIGHTS_ALONE)
def test_quantised_weights_answer_as_stock_generate_does(film, kind, dtype):
    vlm = specvlm.load("pocket", dtype=dtype, target_kwargs={"quantization_config": WEIGHTS_ALONE[kind]()})
    answer = vlm.generate(film, QUESTION, **ASKED)
    assert answer.token_ids == vlm.autoregressive(film, QUESTION, **ASKED).token_ids
    assert answer.stats.num_accepted > 0
    products = [
        layer for layer in vlm.target.model.model.language_model.layers.modules() if hasattr(layer, "in_features")
    ]
    assert products
    assert not any(type(layer) is nn.Linear and type(layer.weight) is nn.Parameter for layer in products)


@pytest.mark.parametrize(
    ("kind", "dtype"), [(kind, dtype) for kind, (_, _, dtypes) in ACTIVATIONS.items() for dtype in dtypes]
)
def test_quantised_activations_are_refused_by_name(kind, dtype):
    config, reason, _ = ACTIVATIONS[kind]
    with pytest.raises(ModelError, match=rf"layers\.0\.self_attn\.q_proj .*{reason}") as caught:
        specvlm.load("pocket", dtype=dtype, target_kwargs={"quantization_config": config()})
    assert "\n" not in str(caught.value)


@pytest.mark.part(2)
@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_a_draft_may_be_quantised_in_any_way(film, kind):
    vlm = specvlm.load("pocket", draft_kwargs={"quantization_config": ACTIVATIONS[kind][0]()})
    answer = vlm.generate(film, QUESTION, **ASKED)
    assert answer.token_ids == vlm.autoregressive(film, QUESTION, **ASKED).token_ids
    assert answer.stats.num_accepted > 0


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize("family", tiny.BUILDERS)
def test_by_a_name_the_language_model_is_quantised_and_nothing_else(tmp_path, family, name):
    tiny.model(family, hidden=64, heads=8, kv_heads=4).save_pretrained(tmp_path)
    tiny.processor(family).save_pretrained(tmp_path)
    target = specvlm.load(tmp_path, target_kwargs={"quantization_config": name}).target
    text = target.model.model.language_model
    kinds = {type(layer.self_attn.q_proj.weight) for layer in text.layers}
    assert nn.Parameter not in kinds
    others = {id(weight) for weight in target.model.parameters()} - {id(weight) for weight in text.parameters()}
    assert all(type(weight) is nn.Parameter for weight in target.model.parameters() if id(weight) in others)
    assert others


@pytest.mark.parametrize("name", BY_NAME)
def test_a_package_that_is_not_here_is_named(monkeypatch, name):
    _, package, make = BY_NAME[name]
    monkeypatch.setitem(BY_NAME, name, (lambda: False, package, make))
    with pytest.raises(OptionError, match=f"target_kwargs: the quantisation {name} needs the package {package}, which"):
        require_name(name, "target_kwargs")


def test_what_transformers_says_of_a_config_is_one_line():
    with pytest.raises(ModelError, match=r"can't load .* as a checkpoint: .*pre-quantized") as caught:
        specvlm.load("pocket", target_kwargs={"quantization_config": {"quant_method": "awq", "bits": 4}})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "package"),
    [
        ({"quant_method": "awq", "bits": 4, "group_size": 16, "zero_point": True}, "gptqmodel"),
        ({"quant_method": "gptq", "bits": 4, "group_size": 16}, "optimum"),
        ({"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {}}, "compressed-tensors"),
        ({"quant_method": "hqq"}, "HQQ"),
    ],
)
def test_a_checkpoint_of_a_package_that_is_not_here_is_refused_in_one_line(tmp_path, config, package):
    tiny.model("llava_onevision", layers=1).save_pretrained(tmp_path)
    tiny.processor("llava_onevision").save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": config}))
    with pytest.raises(ModelError, match=rf"can't load .* as a checkpoint: .*{package}") as caught:
        specvlm.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_float8_by_blocks_needs_a_gpu_to_be_made(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError, match="A GPU or XPU is needed for FP8 quantization"):
        specvlm.load("pocket", device="cpu", target_kwargs={"quantization_config": FineGrainedFP8Config()})


def test_every_name_has_a_config_and_every_config_a_name():
    assert tuple(BY_NAME) == get_args(Quantization)
