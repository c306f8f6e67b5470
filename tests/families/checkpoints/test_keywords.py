"""What one model is loaded with: over what holds for both, and nothing that nobody takes."""

from __future__ import annotations

import pytest
import torch
from transformers import BitsAndBytesConfig, TorchAoConfig

import tiny
from specvlm.errors import OptionError
from specvlm.families.checkpoints.keywords import OTHERWISE, Keywords

CONFIG = tiny.llava_model(0, layers=1).config


def refusal(given: object, **shared: object) -> str:
    with pytest.raises(OptionError) as caught:
        Keywords.of("draft_kwargs", given, **shared).settled(CONFIG)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_what_is_of_one_model_goes_before_what_is_of_both():
    shared = {"dtype": "float32", "device_map": None, "attn": "sdpa"}
    how = Keywords.of("target_kwargs", {"dtype": torch.float64, "attn": "eager", "revision": None}, **shared)
    assert (how.dtype, how.device_map, how.attn, dict(how.hub)) == (torch.float64, None, "eager", {})
    assert Keywords.of("target_kwargs", None, **shared).of_weights() == {
        "dtype": torch.float32, "device_map": None, "attn_implementation": "sdpa",
    }  # fmt: skip


def test_files_are_found_by_some_and_weights_are_read_by_others():
    given = {"revision": "v1", "token": "t", "trust_remote_code": True, "max_memory": {0: 1}, "offload_folder": "o"}
    how = Keywords.of("target_kwargs", given).settled(CONFIG)
    assert how.hub == {"revision": "v1", "token": "t", "trust_remote_code": True}
    assert how.more == {"max_memory": {0: 1}, "offload_folder": "o"}
    assert how.trusts
    assert not Keywords.of("target_kwargs", None).trusts


def test_fields_of_the_config_are_taken_as_by_from_pretrained():
    assert Keywords.of("target_kwargs", {"vision_feature_layer": -2}).settled(CONFIG).more == {
        "vision_feature_layer": -2
    }


def test_what_nothing_takes_is_refused_with_what_was_meant():
    message = refusal({"quantisation_config": 1, "nonsense": 2})
    assert "draft_kwargs: nothing takes 'quantisation_config', 'nonsense' (is quantization_config meant?)" in message
    assert "LlavaOnevisionConfig" in message


@pytest.mark.parametrize("name", OTHERWISE)
def test_what_has_no_use_here_is_refused_with_the_reason(name):
    assert refusal({name: "x"}) == f"draft_kwargs: {name} {OTHERWISE[name]}"


@pytest.mark.parametrize("given", ["bfloat16", [("dtype", "float32")], {1: 2}])
def test_keywords_are_a_dict(given):
    assert refusal(given).startswith("draft_kwargs must be a dict of keywords such as")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"quantization_config": 4}, "quantization_config must be one of transformers' configs or a name, not 4"),
        ({"max_memory": "20GiB"}, "max_memory must be a dict such as {0: '20GiB'}, not '20GiB'"),
    ],
)
def test_wrong_values_are_refused(given, words):
    assert refusal(given) == f"draft_kwargs: {words}"


def test_most_memory_says_to_spread():
    assert Keywords.of("target_kwargs", {"max_memory": {0: 1}}, device_map=None).device_map == "auto"
    assert Keywords.of("target_kwargs", {"max_memory": {0: 1}}, device_map="balanced").device_map == "balanced"


def test_a_dtype_that_there_is_not_is_refused():
    assert "dtype must be one of auto, float64" in refusal({"dtype": "int4"})
    assert "dtype must be one of auto, float64" in refusal(None, dtype="half")


@pytest.mark.parametrize(("dtype", "computes_in"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_a_quantisation_has_a_name_and_computes_in_the_models_dtype(dtype, computes_in):
    given = {"quantization_config": "nf4", "dtype": dtype}
    found = Keywords.of("target_kwargs", given).settled(CONFIG).more["quantization_config"]
    assert isinstance(found, BitsAndBytesConfig)
    assert (found.bnb_4bit_quant_type, found.bnb_4bit_compute_dtype) == ("nf4", computes_in)
    other = Keywords.of("target_kwargs", given | {"quantization_config": "int8"}).settled(CONFIG)
    assert isinstance(other.more["quantization_config"], TorchAoConfig)


def test_or_a_name_that_there_is_not():
    assert "a quantisation is named nf4, int8, float8, or is a config of transformers, not 'q4_k_m'" in refusal(
        {"quantization_config": "q4_k_m"}
    )
