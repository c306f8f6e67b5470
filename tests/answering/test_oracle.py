"""The oracle: the tokens of stock generate whatever a checkpoint's generation config says, or a refusal by name."""

from __future__ import annotations

import copy
import time
from functools import lru_cache
from typing import Any

import pytest
import torch
from transformers import CompileConfig, GenerationConfig, SynthIDTextWatermarkingConfig, WatermarkingConfig

import tiny
from specvlm import OptionError, Options, Stats
from specvlm.comparing.compare import compare
from specvlm.families.releases import CHUNKS_SEE_WRONG
from specvlm.pipeline import SpecVLM

FILM = tiny.film(4, 0)
QUESTION = "what does the ball do?"
SAME = "the tokens of stock generate"

FIELDS: dict[str, list[tuple[Any, str]]] = {
    # Length. Options have a length of their own, which comes before.
    "max_length": [(10, SAME), (40, SAME)],
    "max_new_tokens": [(5, SAME), (500, SAME)],
    "min_length": [(40, SAME)],
    "min_new_tokens": [(6, SAME)],
    "early_stopping": [(True, SAME)],
    "max_time": [(1e9, SAME), (1e-9, SAME)],  # `compare` refuses it: see below
    "stop_strings": [("e", SAME), (["e", "a"], SAME)],
    # The way to decode.
    "do_sample": [(True, SAME), (False, SAME)],
    "num_beams": [(1, SAME), (4, "beam_search")],
    "use_mtp": [(True, "assisted_generation")],
    # The cache, which is specvlm's own.
    "use_cache": [(False, SAME)],
    "cache_implementation": [
        ("static", SAME),
        ("dynamic", SAME),
        ("sliding_window", SAME),
        ("hybrid", SAME),
        ("quantized", "cache_implementation='quantized' changes the tokens"),
        ("offloaded", "cache_implementation='offloaded' is for models on an accelerator"),
        ("offloaded_static", "cache_implementation='offloaded_static' is for models on an accelerator"),
    ],
    "cache_config": [({"backend": "quanto"}, SAME)],
    "max_cache_len": [(500, SAME)],
    # Logits. Without do_sample the first seven do nothing.
    "temperature": [(0.0, SAME), (0, SAME), (0.5, SAME)],
    "top_k": [(5, SAME), (0, SAME)],
    "top_p": [(0.5, SAME)],
    "min_p": [(0.2, SAME)],
    "top_h": [(0.5, SAME)],
    "typical_p": [(0.5, SAME)],
    "epsilon_cutoff": [(0.1, SAME)],
    "eta_cutoff": [(0.1, SAME)],
    "repetition_penalty": [(1.3, SAME)],
    "encoder_repetition_penalty": [(1.3, SAME)],
    "length_penalty": [(2.0, SAME)],
    "no_repeat_ngram_size": [(2, SAME)],
    "encoder_no_repeat_ngram_size": [(2, SAME)],
    "bad_words_ids": [([[70]], SAME)],
    "renormalize_logits": [(True, SAME)],
    "forced_bos_token_id": [(7, SAME)],
    "forced_eos_token_id": [(7, SAME)],
    "remove_invalid_values": [(True, SAME)],
    "exponential_decay_length_penalty": [((3, 1.5), SAME)],
    "suppress_tokens": [([70], SAME)],
    "begin_suppress_tokens": [([70], SAME)],
    "sequence_bias": [([[[70], 9.0]], SAME)],
    "token_healing": [(True, "token_healing, which rewrites the prompt")],
    "guidance_scale": [(1.5, "UnbatchedClassifierFreeGuidanceLogitsProcessor keeps a memory")],
    "watermarking_config": [
        (WatermarkingConfig(), SAME),
        (SynthIDTextWatermarkingConfig(ngram_len=3, keys=[1, 2]), "SynthIDTextWatermarkLogitsProcessor keeps a memory"),
    ],
    # What is returned.
    "num_return_sequences": [(1, SAME), (2, "num_return_sequences")],
    "output_attentions": [(True, SAME)],
    "output_hidden_states": [(True, SAME)],
    "output_scores": [(True, SAME)],
    "output_logits": [(True, SAME)],
    "return_dict_in_generate": [(True, SAME)],
    # Special tokens.
    "pad_token_id": [(3, SAME)],
    "bos_token_id": [(3, SAME)],
    "eos_token_id": [([70, 71, 72, 73, 74, 75], SAME), (None, SAME)],
    "decoder_start_token_id": [(3, SAME)],
    # Stock's own guessing: without an assistant most of them do nothing.
    "is_assistant": [(True, "is_assistant=True")],
    "num_assistant_tokens": [(4, SAME)],
    "num_assistant_tokens_schedule": [("constant", SAME)],
    "assistant_confidence_threshold": [(0.4, SAME)],
    "prompt_lookup_num_tokens": [(3, "assisted_generation")],
    "max_matching_ngram_size": [(2, SAME)],
    "assistant_early_exit": [(1, "assisted_generation")],
    "assistant_lookbehind": [(3, SAME)],
    "target_lookbehind": [(3, SAME)],
    "assistant_ensemble_weight": [(0.5, SAME)],
    "speculation_type": [("anything", SAME)],
    # How it is run.
    "compile_config": [(CompileConfig(), SAME)],
    "disable_compile": [(True, SAME)],
    "continuous_batching_config": [({}, SAME)],
    "prefill_chunk_size": [(1000, "prefill_chunk_size=1000" if CHUNKS_SEE_WRONG else SAME)],
    # Ways to decode that transformers has given away.
    "low_memory": [(True, SAME)],
    "penalty_alpha": [(0.6, "contrastive_search")],
    "dola_layers": [("high", "dola_generation")],
    "diversity_penalty": [(0.5, SAME)],
    "num_beam_groups": [(2, SAME)],
    "constraints": [([1], "constrained_beam_search")],
    "force_words_ids": [([[70]], "constrained_beam_search")],
}
TOGETHER: list[tuple[dict[str, Any], str]] = [
    ({"do_sample": True, "temperature": 0.7, "top_k": 5, "top_p": 0.9}, SAME),
    ({"do_sample": True, "temperature": 0.0}, "temperature"),
    ({"do_sample": True, "num_beams": 4}, "beam_sample"),
    ({"do_sample": True, "num_return_sequences": 3}, "num_return_sequences must be 1, not 3"),
    ({"num_beams": 4, "num_return_sequences": 3}, "beam_search"),
    ({"return_dict_in_generate": True, "output_scores": True, "output_logits": True}, SAME),
    ({"return_dict_in_generate": True, "output_hidden_states": True, "stop_strings": "e"}, SAME),
    ({"cache_implementation": "static", "return_dict_in_generate": True}, SAME),
    ({"min_new_tokens": 6, "eos_token_id": list(range(100, 320))}, SAME),
    ({"penalty_alpha": 0.6, "top_k": 4}, "contrastive_search"),
]
CASES = [({name: value}, outcome) for name, cases in FIELDS.items() for value, outcome in cases] + TOGETHER
REFUSED = [(shipped, outcome) for shipped, outcome in CASES if outcome != SAME]
BY_STOCK_ALONE = ("is for models on an accelerator",)
"""What specvlm answers all the same, having a cache of its own."""

pytestmark = pytest.mark.filterwarnings("ignore:Passing `generation_config` together with")


@lru_cache
def models() -> tuple[Any, Any]:
    target = tiny.llava_model(0, layers=2)
    return target, tiny.noised(target, 0.01)


def shipped_with(settings: dict[str, Any]) -> SpecVLM:
    target, draft = models()
    target = copy.deepcopy(target)
    for name, value in settings.items():
        setattr(target.generation_config, name, value)
    return tiny.pair(target, draft)


def by_hand(vlm: SpecVLM, limit: int) -> tuple[int, ...]:
    """Stock generate, as a user of transformers calls it."""
    prompt = vlm.prepare(FILM, QUESTION, Options(), Stats())
    torch.manual_seed(0)
    model: Any = vlm.target.model
    output = model.generate(**prompt.model_inputs, max_new_tokens=limit, tokenizer=tiny.tokenizer())
    return tuple(getattr(output, "sequences", output)[0, prompt.num_tokens :].tolist())


def test_the_table_has_every_field_that_generation_configs_have():
    bookkeeping = {"_from_model_config", "transformers_version"}
    missing = vars(GenerationConfig()).keys() - FIELDS.keys() - bookkeeping
    assert not missing, "a new setting of transformers: what becomes of an answer?"


@pytest.mark.parametrize(("settings", "outcome"), CASES, ids=lambda value: str(value)[:60])
def test_whatever_a_checkpoint_carries_is_answered_as_stock_or_refused_by_name(settings, outcome):
    vlm = shipped_with(settings)
    asked = {"max_new_tokens": 8, "seed": 0}
    if outcome == SAME:
        right = by_hand(vlm, 8)
        assert vlm.autoregressive(FILM, QUESTION, **asked).token_ids == right
        assert vlm.generate(FILM, QUESTION, **asked).token_ids == right
        return
    for limit in (8, 0):
        with pytest.raises(OptionError, match=outcome) as caught:
            vlm.autoregressive(FILM, QUESTION, **asked | {"max_new_tokens": limit})
        assert "\n" not in str(caught.value)
    if any(reason in outcome for reason in BY_STOCK_ALONE):
        right = by_hand(shipped_with({}), 8)
        assert vlm.generate(FILM, QUESTION, **asked).token_ids == right
    else:
        with pytest.raises(OptionError, match=outcome):
            vlm.generate(FILM, QUESTION, **asked)


@pytest.mark.parametrize(("settings", "outcome"), REFUSED, ids=lambda value: str(value)[:60])
def test_what_is_refused_is_not_compared(settings, outcome):
    with pytest.raises(OptionError, match=outcome):
        compare(shipped_with(settings), FILM, QUESTION, Options(max_new_tokens=4), arms=("loop", "prompt_lookup"))


@pytest.mark.parametrize(
    "settings",
    [
        {"return_dict_in_generate": True, "output_scores": True},
        {"do_sample": True, "top_k": 5},
        {"cache_implementation": "static"},
        {"use_cache": False},
        {"temperature": 0.0},
    ],
    ids=str,
)
def test_what_is_answered_is_compared(settings):
    found = compare(shipped_with(settings), FILM, QUESTION, Options(max_new_tokens=8), arms=("loop", "specvlm"))
    assert [(arm.arm, arm.identical, arm.tokens) for arm in found.arms] == [
        ("ar", True, 8), ("loop", True, 8), ("specvlm", True, 8),
    ]  # fmt: skip


def test_answers_that_a_clock_ends_are_not_compared():
    """The faster arm has the longer answer."""
    with pytest.raises(OptionError, match=r"max_time=60.0, which ends an answer by the clock"):
        compare(shipped_with({"max_time": 60.0}), FILM, QUESTION, Options(max_new_tokens=4))


def test_strict_answers_have_an_oracle_that_is_as_strict():
    with pytest.raises(OptionError, match="strict=True is for greedy answers"):
        shipped_with({}).autoregressive(FILM, QUESTION, strict=True, do_sample=True, max_new_tokens=4)


def test_the_checks_of_the_oracle_cost_it_no_time(monkeypatch):
    """Its clock is the one that others are measured against."""
    seconds = []

    def slow(*args: Any) -> None:
        time.sleep(0.5)
        seconds.append(0.5)

    vlm = shipped_with({})
    vlm.autoregressive(FILM, QUESTION, max_new_tokens=2)
    monkeypatch.setattr("specvlm.answering.oracle.refuse_unless_comparable", slow)
    stats = vlm.autoregressive(FILM, QUESTION, max_new_tokens=2).stats
    assert seconds
    assert max(stats.total_seconds, stats.ttft_seconds, sum(stats.phases.values())) < 0.5
