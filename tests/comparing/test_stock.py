"""Stock generate's own ways to be faster: what they do to the model, to torch, and to what others are measured by."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import StaticCache

import tiny
from specvlm.answering.options import Options
from specvlm.comparing import stock
from specvlm.comparing.arms import find
from specvlm.comparing.compare import compare
from specvlm.comparing.stock import REMEMBERED_LENGTH, cudnn_attends, cudnn_attention_off, left_as_found
from specvlm.errors import OptionError
from specvlm.families import releases
from specvlm.families.releases import ASSISTS_WITH_STATIC
from specvlm.pipeline import SpecVLM

QUESTION = "what happens?"
FAMILIES = ("llava_onevision", "qwen2_5_vl")
STATIC = ("ar-static", *(("assisted-static",) if ASSISTS_WITH_STATIC else ()))
CPU, GPU = torch.device("cpu"), torch.device("cuda:0")


@lru_cache
def pair(family: str) -> SpecVLM:
    target = tiny.model(family, layers=2)
    return tiny.pair(target, tiny.noised(target, 0.01))


class Switch:
    """As much of `torch.backends.cuda` as is touched."""

    def __init__(self, on: bool = True) -> None:
        self.on, self.calls = on, []

    def cudnn_sdp_enabled(self) -> bool:
        return self.on

    def enable_cudnn_sdp(self, on: bool) -> None:
        self.on = on
        self.calls.append(on)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("arm", STATIC)
def test_a_static_cache_gives_the_same_answer_and_really_is_one(family, arm, monkeypatch):
    vlm, updates = pair(family), []
    update = StaticCache.update

    def noted(cache: StaticCache, *arguments: Any, **named: Any) -> Any:
        updates.append(cache)
        return update(cache, *arguments, **named)

    monkeypatch.setattr(StaticCache, "update", noted)
    options = Options(max_new_tokens=24)
    right = find("ar").run(vlm, tiny.video(5), QUESTION, options)
    assert not updates
    found = find(arm).run(vlm, tiny.video(5), QUESTION, options)
    assert len(updates) >= 2 * (1 + found.stats.num_rounds)  # layers, forwards
    assert found.token_ids == right.token_ids
    assert (found.stats.mean_acceptance_length > 1) == (arm == "assisted-static")


@pytest.mark.parametrize("before", [None, 500])
def test_the_length_of_a_static_cache_is_not_remembered(before, monkeypatch):
    """transformers notes the longest one on the model, and gives later answers as long a one, which is slower."""
    vlm, lengths = pair("qwen2_5_vl"), []
    model: Any = vlm.target.model
    real = StaticCache.__init__

    def noted(cache: StaticCache, *arguments: Any, **named: Any) -> None:
        lengths.append(named["max_cache_len"])
        real(cache, *arguments, **named)

    monkeypatch.setattr(StaticCache, "__init__", noted)
    if before is not None:
        monkeypatch.setattr(model, REMEMBERED_LENGTH, before, raising=False)
    for num_tokens in (9, 4):
        find("ar-static").run(vlm, tiny.video(5), QUESTION, Options(max_new_tokens=num_tokens))
        assert vars(model).get(REMEMBERED_LENGTH) == before
    assert lengths[0] - lengths[1] == 5


def test_what_was_compiled_is_not_left_on_the_model_and_what_its_owner_compiled_is():
    model = SimpleNamespace(weight=1, _compiled_call="its owner's", _previous_max_cache_length=77)
    with suppress(KeyError), left_as_found(model):
        assert vars(model) == {"weight": 1, "_compiled_call": "its owner's"}
        model._previous_max_cache_length, model._compiled_call, model._last_compile_config = 9, "ours", "ours"
        raise KeyError
    assert vars(model) == {"weight": 1, "_compiled_call": "its owner's", "_previous_max_cache_length": 77}


def test_a_release_that_has_no_assistant_for_a_static_cache_is_named(monkeypatch):
    monkeypatch.setattr(releases, "ASSISTS_WITH_STATIC", False)
    found = compare(pair("qwen2_5_vl"), tiny.video(5), QUESTION, Options(max_new_tokens=4), arms=("assisted-static",))
    assert "5.24.0 or newer" in found.refused["assisted-static"]


def test_what_compiles_is_warmed_up_with_the_question_itself_and_told_apart():
    vlm, options = pair("qwen2_5_vl"), Options(max_new_tokens=12, pruning_ratio=0.5)
    arms = ("ar-static", "assisted", "specvlm")
    found = compare(vlm, tiny.video(5), QUESTION, options, arms=arms, whole_warm_up=True)
    whole = {arm.arm: arm.warm_up_seconds for arm in found.arms}
    assert whole["ar"] is whole["assisted"] is None
    for arm in found.arms:
        if arm.arm in ("ar-static", "specvlm"):
            assert arm.warm_up_seconds is not None
            assert arm.compile_seconds == max(0.0, arm.warm_up_seconds - arm.total_seconds)
    assert {arm.warm_up_seconds for arm in compare(vlm, tiny.video(5), QUESTION, options, arms=arms).arms} == {None}


def test_on_a_cpu_there_is_one_plain_arm():
    found = compare(pair("llava_onevision"), tiny.video(5), QUESTION, Options(max_new_tokens=4), arms=())
    assert [arm.arm for arm in found.arms] == ["ar"]
    assert found.baselines == {"decode_speedup": "ar", "end_to_end_speedup": "ar"}


def test_cudnn_is_left_out_for_a_block_and_stays_out_for_whoever_left_it_out():
    for on in (True, False):
        switch = Switch(on)
        with suppress(KeyError), cudnn_attention_off(switch):
            assert not switch.on
            raise KeyError
        assert switch.on is on


@pytest.mark.parametrize(("arm", "without"), [("ar", False), ("ar-no-cudnn", True), ("assisted", True)])
def test_which_arms_do_without_it(arm, without, monkeypatch):
    seen, real = [], stock.stock_answer

    def answer(*arguments: Any, **aids: Any) -> Any:
        seen.append(torch.backends.cuda.cudnn_sdp_enabled())
        return real(*arguments, **aids)

    monkeypatch.setattr(stock, "stock_answer", answer)
    monkeypatch.setattr("specvlm.pipeline.stock_answer", answer)
    found = torch.backends.cuda.cudnn_sdp_enabled()
    assert found, "torch has it on, even where there is no GPU"
    find(arm).run(pair("llava_onevision"), tiny.video(5), QUESTION, Options(max_new_tokens=4))
    assert seen == [not without]
    assert torch.backends.cuda.cudnn_sdp_enabled()


@pytest.mark.parametrize(
    ("device", "dtype", "major", "on", "attends"),
    [
        (GPU, torch.bfloat16, 9, True, True),
        (GPU, torch.float16, 10, True, True),
        (GPU, torch.float32, 9, True, False),
        (GPU, torch.bfloat16, 8, True, False),
        (GPU, torch.bfloat16, 9, False, False),
        (CPU, torch.bfloat16, 9, True, False),
    ],
)
def test_where_torch_chooses_cudnn(device, dtype, major, on, attends):
    assert cudnn_attends(device, dtype, switch=Switch(on), capability=lambda which: (major, 0)) is attends


def test_a_sampled_answer_has_a_static_cache_too_and_a_peer_that_guesses_none():
    """It throws one die a token, as without."""
    options = Options(do_sample=True, seed=3, max_new_tokens=12)
    vlm = pair("qwen2_5_vl")
    right, found = (find(arm).run(vlm, tiny.video(5), QUESTION, options) for arm in ("ar", "ar-static"))
    assert found.token_ids == right.token_ids
    with pytest.raises(OptionError, match="greedy"):
        find("assisted").run(vlm, tiny.video(5), QUESTION, options)
