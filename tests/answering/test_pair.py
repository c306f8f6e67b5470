"""Pair: a draft that can't speak for the target is refused, and the reason is named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torchao.quantization import Int8WeightOnlyConfig, quantize_
from transformers import PreTrainedTokenizerFast

import tiny
from specvlm.answering.pair import Pair, check_layout, same_tower
from specvlm.errors import ModelError
from specvlm.families import Family
from specvlm.families.llava_onevision import LlavaOnevision


def family(name: str, processor: Any = None, **model_options: Any) -> Family:
    return LlavaOnevision(tiny.llava_model(1, **model_options), processor or tiny.llava_processor(), name)


def test_two_sizes_of_one_family_are_a_pair():
    Pair.of(family("big", layers=3), family("small", layers=1, hidden=16, heads=2, kv_heads=1))


def test_all_that_work_for_an_answer_are_known_whoever_drafts():
    """One device here. Weights that are nowhere between two forwards: tests/families/test_offloading.py."""
    big, small = family("big", layers=3), family("small")
    for draft in (small, "self", None):
        assert Pair.of(big, draft).devices == (torch.device("cpu"),)


def test_vocabulary_sizes_may_differ_when_the_tokenizers_do_not():
    """Checkpoints pad their tables differently: Qwen2.5-VL has 151,936 rows at 3B and 152,064 at 7B."""
    Pair.of(family("big", vocabulary=352), family("small", vocabulary=320))


def test_another_tokenizer_is_refused_with_a_token_that_differs():
    other = PreTrainedTokenizerFast(tokenizer_object=tiny.tokenizer().backend_tokenizer, eos_token="<|im_end|>")
    other.add_tokens(["ball?"])
    processor = tiny.llava_processor()
    processor.tokenizer = other
    with pytest.raises(ModelError, match=r"big and draft small have different tokenizers: 'ball\?' is None .* and \d+"):
        Pair.of(family("big"), family("small", processor))


@pytest.mark.parametrize(
    ("setting", "value"), [("image_mean", [0.1, 0.2, 0.3]), ("size", {"height": 20, "width": 20}), ("do_resize", False)]
)
def test_a_draft_that_prepares_frames_differently_is_refused(setting, value):
    processor = tiny.llava_processor()
    setattr(processor.video_processor, setting, value)
    with pytest.raises(ModelError, match=f"big and draft small see a video differently: {setting} is"):
        Pair.of(family("big"), family("small", processor))


def test_families_do_not_mix():
    class Other(LlavaOnevision.__base__):  # type: ignore[name-defined, misc]
        model_type = "qwen2_5_vl"
        prepare = prompt_from_inputs = see = embed = tower = None
        layout: Mapping[str, object] = {}

    other = Other(tiny.llava_model(1), tiny.llava_processor(), "small")
    for check in (Pair.of, check_layout):
        with pytest.raises(ModelError, match="big is a llava_onevision and draft small a qwen2_5_vl"):
            check(family("big"), other)


def test_towers_of_quantised_weights_are_not_said_to_be_the_same():
    """torchao's tensors can't be compared; of others the scales, which make the number, lie elsewhere."""
    big, small = family("big"), family("small")
    assert same_tower(big, small)
    quantize_(big.model.model.vision_tower, Int8WeightOnlyConfig())
    assert not same_tower(big, small)
    quantize_(small.model.model.vision_tower, Int8WeightOnlyConfig())
    assert not same_tower(big, small)
    assert not Pair.of(big, small).one_tower
