"""A pair before it is loaded: found, weighed and placed, each model by its own keywords; and loaded so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import specvlm
import tiny
from specvlm.answering.survey import survey
from specvlm.errors import ModelError, OptionError, SpecVLMError
from specvlm.families.room.memory import Gpu, Memory

GPU = Memory(2**34, (Gpu(0, "H100", 2**36),))
NONE = Memory(2**34)


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pair")
    for seed, role in enumerate(("target", "draft")):
        tiny.llava_model(seed, layers=2).save_pretrained(folder / role)
        tiny.llava_processor().save_pretrained(folder / role)
    return folder


def refusal(*sources: Any, **how: Any) -> str:
    with pytest.raises(SpecVLMError) as caught:
        survey(*sources, **how)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_each_model_has_keywords_of_its_own(pair):
    vlm = specvlm.load(
        pair / "target",
        pair / "draft",
        dtype="float64",
        attn="sdpa",
        target_kwargs={"attn": "eager"},
        draft_kwargs={"dtype": torch.float32},
    )
    assert vlm.draft is not None
    models = vlm.target.model, vlm.draft.model
    assert [model.dtype for model in models] == [torch.float64, torch.float32]
    assert [model.config._attn_implementation for model in models] == ["eager", "sdpa"]
    answer = vlm.generate(tiny.film(6), "what happens?", max_new_tokens=12)
    assert answer.token_ids == vlm.autoregressive(tiny.film(6), "what happens?", max_new_tokens=12).token_ids
    assert answer.stats.num_drafted > 0


def test_a_draft_that_is_quantised_alone_guesses_for_a_whole_target(tmp_path):
    for role in ("target", "draft"):
        tiny.llava_model(0, hidden=64, heads=8, kv_heads=4).save_pretrained(tmp_path / role)
        tiny.llava_processor().save_pretrained(tmp_path / role)
    vlm = specvlm.load(
        tmp_path / "target", tmp_path / "draft", dtype="float32", draft_kwargs={"quantization_config": "int8"}
    )
    answer = vlm.generate(tiny.film(6), "what happens?", max_new_tokens=12)
    assert answer.token_ids == vlm.autoregressive(tiny.film(6), "what happens?", max_new_tokens=12).token_ids
    assert answer.stats.num_accepted > 0
    assert vlm.pair.one_tower  # which a name leaves whole


def test_a_gpu_with_room_is_taken_by_default_and_the_cpu_without_one(pair):
    found = survey(pair / "target", pair / "draft", memory=GPU)
    assert (found.placement.target, found.placement.draft, found.is_open) == ("cuda:0", "cuda:0", True)
    assert "cuda:0 (H100): both models and 8192 tokens take" in found.placement.reason
    found = survey(pair / "target", None, memory=NONE)
    assert (found.placement.target, found.placement.draft) == (None, None)
    assert found.placement.reason == "the CPU: torch finds no GPU here"


def test_a_device_that_is_asked_for_is_where_both_go(pair):
    vlm = specvlm.load(pair / "target", pair / "draft", device="cpu")
    assert vlm.pair.devices == (torch.device("cpu"),)
    found = survey(pair / "target", pair / "draft", device="cpu", memory=GPU)
    assert (found.placement.target, found.placement.draft, found.is_open) == ("cpu", "cpu", False)


def test_where_one_is_told_the_other_has_what_is_left(pair):
    one = {"target_kwargs": {"device_map": "meta"}}
    found = survey(pair / "target", pair / "draft", memory=GPU, **one)
    assert (found.placement.target, found.placement.draft) == ("meta", "cuda:0")
    assert "the model and 8192 tokens" in found.placement.reason


def test_beside_a_model_that_is_there_the_other_goes_where_that_is(pair):
    model = tiny.llava_model(3, layers=1)
    for sources in ((pair / "target", model), (model, pair / "draft")):
        found = survey(*sources, processor=tiny.llava_processor(), memory=GPU)
        assert "cpu" in (found.placement.target, found.placement.draft)
        assert found.placement.reason == "cpu, where the other model is"


def test_most_memory_that_is_told_is_told_to_spread(pair):
    found = survey(pair / "target", None, memory=GPU, target_kwargs={"max_memory": {"cpu": "1GiB"}})
    assert found.placement.target == "auto"


def test_both_a_device_and_a_device_map_are_too_much(pair):
    assert "both say where" in refusal(pair / "target", None, device="cpu", device_map="auto")


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("balanced", "device must be auto, or one such as cuda, cuda:0 or cpu: device_map takes 'balanced'"),
        ("gpu", "device must be a device such as cuda"),
        ("cuda:63", "device='cuda:63': torch finds"),
    ],
)
def test_a_device_that_there_is_not_is_refused(pair, device, words):
    assert words in refusal(pair / "target", None, device=device)


def test_keywords_that_nothing_is_loaded_with_are_refused(pair):
    given = {"dtype": "float32"}
    assert "draft_kwargs have no use: the draft isn't" in refusal(pair / "target", None, draft_kwargs=given)
    assert "draft_kwargs have no use: the draft isn't" in refusal(pair / "target", "self", draft_kwargs=given)
    owned = {"processor": tiny.llava_processor(), "target_kwargs": given}
    assert "target_kwargs have no use: the target is loaded" in refusal(tiny.llava_model(0, layers=1), None, **owned)


def test_unknown_keywords_are_named_before_any_weight_is_read(pair):
    message = refusal(pair / "target", pair / "draft", draft_kwargs={"revison": "v1"})
    assert "draft_kwargs: nothing takes 'revison' (is revision meant?)" in message


def test_a_context_is_a_length(pair):
    assert "context must be 1 token or more" in refusal(pair / "target", None, context=0)


def test_what_cannot_fit_is_refused_before_it_is_read(pair):
    small = Memory(2**17)
    found = survey(pair / "target", pair / "draft", memory=small)
    (pair / "target" / "model.safetensors").rename(pair / "elsewhere")
    try:
        with pytest.raises(
            ModelError, match=r"need 0\.0 GiB of memory at least, and 0\.0 GiB of RAM are free: what would"
        ):
            found.load()
    finally:
        (pair / "elsewhere").rename(pair / "target" / "model.safetensors")
    survey(pair / "target", pair / "draft", memory=small, device="cpu").require_room()  # who asks for it has a disk
    with pytest.raises(ModelError, match="in float64"):
        survey(pair / "target", pair / "draft", memory=small, device="cpu", dtype="float64").require_room()
    found = survey(pair / "target", None, memory=Memory(2**20), context=10**6)
    with pytest.raises(ModelError, match=r"with 1000000 tokens needs .* fewer frames or a shorter answer"):
        found.load()


def test_each_model_is_told_of_in_a_line(pair):
    lines: list[str] = []
    survey(pair / "target", pair / "draft", memory=NONE).load(on_model=lines.append)
    assert [line.split(" ")[:3] for line in lines] == [["loading", "the", role] for role in ("target", "draft")]
    assert all(line.endswith("in float32, onto the CPU") for line in lines)


def test_the_pair_says_where_it_is_and_why(pair):
    assert specvlm.load(pair / "target", device="cpu").placement.reason == "as it was asked for"


def test_option_errors_are_option_errors(pair):
    with pytest.raises(OptionError):
        survey(pair / "target", None, device="cpu", device_map="cpu")
