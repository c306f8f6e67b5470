"""The shapes are those of the published models: counted on stock classes, and by hand."""

from __future__ import annotations

import pytest
import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2Config, Qwen2ForCausalLM

from specvlm.bench.widened.__main__ import main
from specvlm.bench.widened.shapes import ON_PAPER, PAIRS, SHAPES, Shape


def text_config(shape: Shape) -> dict:
    return {
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.ffn,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "tie_word_embeddings": shape.tied,
    }


@pytest.mark.parametrize("name", SHAPES)
def test_a_stock_model_of_the_shape_has_as_many_parameters(name):
    shape = SHAPES[name]
    with torch.device("meta"):
        model = Qwen2ForCausalLM(Qwen2Config(**text_config(shape)))
    assert model.model.layers[0].self_attn.head_dim == shape.head_dim
    assert sum(weight.numel() for weight in model.parameters()) == shape.num_parameters
    assert Shape.of(name, model.config) == shape


def test_qwen_vl_counts_like_qwen():
    shape = SHAPES["qwen2.5-vl-3b"]
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    config = Qwen2_5_VLConfig(
        text_config={**text_config(shape), "rope_parameters": rope}, tie_word_embeddings=shape.tied
    )
    with torch.device("meta"):
        model = Qwen2_5_VLForConditionalGeneration(config)
    weights = sum(weight.numel() for name, weight in model.named_parameters() if not name.startswith("model.visual."))
    assert weights == shape.num_parameters
    assert Shape.of(shape.name, config) == shape


def test_the_figures_that_everyone_quotes():
    sizes = {name: round(shape.num_parameters / 1e9, 2) for name, shape in SHAPES.items()}
    assert sizes == {
        "llava-onevision-0.5b": 0.49,
        "llava-onevision-7b": 7.62,
        "llava-onevision-72b": 72.71,
        "qwen2.5-vl-3b": 3.09,
        "qwen2.5-vl-7b": 7.62,
        "qwen2.5-14b": 14.77,
        "qwen2.5-vl-32b": 32.76,
        "qwen2.5-vl-72b": 72.71,
    }
    # 28 layers, 4 heads of 128, keys and values, 2 bytes a number
    assert SHAPES["qwen2.5-vl-7b"].kv_bytes_per_token(torch.bfloat16) == 28 * 4 * 128 * 2 * 2


@pytest.mark.parametrize("name", SHAPES)
def test_a_forward_reads_all_but_the_embedding_table(name):
    shape = SHAPES[name]
    table = shape.vocabulary * shape.hidden
    assert shape.weight_bytes(torch.bfloat16) == 2 * (shape.num_parameters - (0 if shape.tied else table))
    assert shape.weight_bytes(torch.float32) == 2 * shape.weight_bytes(torch.bfloat16)


def test_a_pair_is_named_after_both_and_the_target_is_the_larger():
    assert list(PAIRS) == ["llava-onevision-7b+0.5b", "qwen2.5-vl-7b+3b", "qwen2.5-14b+3b", "qwen2.5-vl-32b+3b"]
    assert list(ON_PAPER) == ["llava-onevision-72b+7b", "qwen2.5-vl-32b+7b"]
    for target, draft, family in (PAIRS | ON_PAPER).values():
        assert target.num_parameters > 2 * draft.num_parameters
        assert family.split("_")[0] == target.name.split("-")[0].replace("qwen2.5", "qwen2")


def test_without_a_pair_the_command_lists_the_shapes(capsys):
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in SHAPES)
    assert "7,615,616,512" in printed


def test_a_check_needs_a_pair(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--check"])
    assert stop.value.code == 2
    assert "--pair" in capsys.readouterr().err
