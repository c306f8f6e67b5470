"""The table of generate's options in docs/transformers.md: it has every one, and keeps what each row promises."""

from __future__ import annotations

import inspect
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    CompileConfig,
    GenerationConfig,
    GenerationMixin,
    MaxLengthCriteria,
    MinNewTokensLengthLogitsProcessor,
    SynthIDTextWatermarkingConfig,
    WatermarkingConfig,
)
from transformers.generation.streamers import BaseStreamer

import specvlm
import tiny
from integrations.calls import inputs
from specvlm import OptionError, OptionWarning

DOCS = Path(__file__).parents[2] / "docs" / "transformers.md"
BOOKKEEPING = {"_from_model_config", "transformers_version", "self", "kwargs"}
BESIDE = {"tokenizer", "assistant_tokenizer", "trust_remote_code"}
"""Keywords that `generate` takes out of its `kwargs`."""
H, R, N = "honoured", "refused", "without effect"
DRAWS: dict[str, Any] = {"do_sample": True}


class Deaf(BaseStreamer):
    def put(self, value):
        pass

    def end(self):
        pass


@lru_cache
def models() -> tuple[Any, Any]:
    target = tiny.llava_model(0, layers=1)
    return target, tiny.noised(target, 0.01)


def called(given: dict[str, Any], *, ours: bool) -> list[int]:
    target, draft = models()
    beside = {"custom_generate": specvlm.custom_generate, "draft_model": draft, "tree": "chain", "depth": 2}
    torch.manual_seed(0)
    given = {"max_new_tokens": 8} | inputs(num_frames=0) | given
    output = target.generate(**given, **(beside if ours else {}))
    return getattr(output, "sequences", output)[0].tolist()


@lru_cache
def plain(draws: bool) -> list[int]:
    return called({"do_sample": draws}, ours=False)


def said(place: int) -> int:
    return plain(False)[inputs(num_frames=0)["input_ids"].shape[1] :][place]


def word(place: int) -> str:
    return str(tiny.tokenizer().decode([said(place)]))


def prompt_ids() -> dict[str, Any]:
    given = inputs(num_frames=0)
    return {"inputs": given["input_ids"][:, :-1], "input_ids": None, "attention_mask": None}


CASES: dict[str, list[tuple[str, Any]]] = {
    "max_new_tokens": [(H, 5)],
    "max_length": [(H, lambda: {"max_new_tokens": None, "max_length": len(plain(False)) - 3})],
    "min_new_tokens": [(H, lambda: {"eos_token_id": said(2), "min_new_tokens": 5})],
    "min_length": [(H, lambda: {"eos_token_id": said(2), "min_length": len(plain(False)) - 1})],
    "max_time": [(H, 1e-9)],
    "stop_strings": [(H, lambda: {"stop_strings": [word(3)], "tokenizer": tiny.tokenizer()})],
    "tokenizer": [(H, lambda: {"stop_strings": word(3), "tokenizer": tiny.tokenizer()})],
    "do_sample": [(H, True), (N, False)],
    "temperature": [(H, DRAWS | {"temperature": 0.1}), (N, 0.5)],
    "top_k": [(H, DRAWS | {"top_k": 1}), (N, 5)],
    "top_p": [(H, DRAWS | {"top_p": 0.01}), (N, 0.5)],
    "min_p": [(H, DRAWS | {"min_p": 0.9}), (N, 0.5)],
    "top_h": [(H, DRAWS | {"top_h": 0.01}), (N, 0.5)],
    "typical_p": [(H, DRAWS | {"typical_p": 0.01}), (N, 0.5)],
    "epsilon_cutoff": [(H, DRAWS | {"epsilon_cutoff": 0.9}), (N, 0.1)],
    "eta_cutoff": [(H, DRAWS | {"eta_cutoff": 0.9}), (N, 0.1)],
    "repetition_penalty": [(H, 9.0)],
    "no_repeat_ngram_size": [(H, 1)],
    "encoder_repetition_penalty": [(H, 0.01)],
    "encoder_no_repeat_ngram_size": [(H, 1)],
    "bad_words_ids": [(H, lambda: {"bad_words_ids": [[said(0)]]})],
    "suppress_tokens": [(H, lambda: {"suppress_tokens": [said(0)]})],
    "begin_suppress_tokens": [(H, lambda: {"begin_suppress_tokens": [said(0)]})],
    "sequence_bias": [(H, [[[70], 90.0]])],
    "forced_eos_token_id": [(H, 70)],
    "exponential_decay_length_penalty": [(H, {"eos_token_id": 70, "exponential_decay_length_penalty": (2, 90.0)})],
    "remove_invalid_values": [(N, True)],
    "renormalize_logits": [(N, True)],
    "forced_bos_token_id": [(N, 70)],
    "eos_token_id": [(H, lambda: {"eos_token_id": said(2)})],
    "pad_token_id": [(N, 3)],
    "bos_token_id": [(N, 3)],
    "decoder_start_token_id": [(N, 3)],
    "watermarking_config": [
        (H, WatermarkingConfig(bias=90.0)),
        (R, {"watermarking_config": SynthIDTextWatermarkingConfig(ngram_len=3, keys=[1]), "named": "SynthIDText"}),
    ],
    "prefill_chunk_size": [(H, {"prefill_chunk_size": 3, "max_new_tokens": 6})],
    "inputs": [(H, prompt_ids)],
    "generation_config": [(H, lambda: {"generation_config": GenerationConfig(suppress_tokens=[said(0)])})],
    "logits_processor": [(H, lambda: {"eos_token_id": said(2), "logits_processor": [MinNewTokensLengthLogitsProcessor(
        inputs(num_frames=0)["input_ids"].shape[1], 6, said(2))]})],
    "stopping_criteria": [(H, lambda: {"stopping_criteria": [MaxLengthCriteria(len(plain(False)) - 3)]})],
    "prefix_allowed_tokens_fn": [(H, {"prefix_allowed_tokens_fn": lambda batch, ids: [70 + len(ids) % 3]})],
    "streamer": [(H, lambda: {"streamer": Deaf(), "max_new_tokens": 3})],
    "return_dict_in_generate": [(H, {"return_dict_in_generate": True, "max_new_tokens": 3})],
    **{
        name: [(N, True), (R, {name: True, "return_dict_in_generate": True})]
        for name in ("output_scores", "output_logits", "output_attentions", "output_hidden_states")
    },
    "num_return_sequences": [(N, 1), (R, DRAWS | {"num_return_sequences": 2})],
    "num_beams": [(N, 1), (R, {"num_beams": 2, "named": "beam_search"})],
    "early_stopping": [(N, True)],
    "length_penalty": [(N, 2.0)],
    "diversity_penalty": [(N, 0.5)],
    "num_beam_groups": [(N, 2)],
    "constraints": [(R, {"constraints": [1], "named": "constrained_beam_search"})],
    "force_words_ids": [(R, {"force_words_ids": [[70]], "named": "constrained_beam_search"})],
    "penalty_alpha": [
        (N, {"penalty_alpha": 0.6, "top_k": 1}),
        (R, {"penalty_alpha": 0.6, "top_k": 4, "named": "contrastive_search"}),
    ],
    "dola_layers": [(R, {"dola_layers": "high", "named": "dola_generation"})],
    "low_memory": [(N, True)],
    "guidance_scale": [(N, 1.0), (R, {"guidance_scale": 1.5, "named": "ClassifierFreeGuidance"})],
    "negative_prompt_ids": [
        (N, torch.tensor([[5]])),
        (R, {"guidance_scale": 1.5, "negative_prompt_ids": torch.tensor([[5]]), "named": "ClassifierFreeGuidance"}),
    ],
    "negative_prompt_attention_mask": [
        (N, torch.tensor([[1]])),
        (R, {"guidance_scale": 2.0, "negative_prompt_ids": torch.tensor([[5]]), "named": "ClassifierFreeGuidance",
             "negative_prompt_attention_mask": torch.tensor([[1]])}),
    ],
    "token_healing": [(R, {"token_healing": True, "named": "token healing"})],
    "assistant_model": [(R, lambda: {"assistant_model": models()[1]})],
    "use_mtp": [(R, {"use_mtp": True, "named": "assisted_generation"})],
    "prompt_lookup_num_tokens": [(R, {"prompt_lookup_num_tokens": 3, "named": "assisted_generation"})],
    "assistant_early_exit": [(R, {"assistant_early_exit": 1, "named": "assisted_generation"})],
    "is_assistant": [(R, True)],
    "num_assistant_tokens": [(N, 4)],
    "num_assistant_tokens_schedule": [(N, "constant")],
    "assistant_confidence_threshold": [(N, 0.4)],
    "max_matching_ngram_size": [(N, 2)],
    "assistant_lookbehind": [(N, 3)],
    "target_lookbehind": [(N, 3)],
    "assistant_ensemble_weight": [(N, 0.5)],
    "speculation_type": [(N, "anything")],
    "assistant_tokenizer": [(N, lambda: {"assistant_tokenizer": tiny.tokenizer()})],
    "use_cache": [(N, True)],
    "cache_implementation": [(N, "dynamic"), (N, {"cache_implementation": "static", "disable_compile": True}),
                             (R, "quantized")],
    "cache_config": [(N, {"backend": "quanto"})],
    "max_cache_len": [(N, 500)],
    "compile_config": [(N, CompileConfig())],
    "disable_compile": [(N, True)],
    "continuous_batching_config": [(N, {})],
    "synced_gpus": [(N, False), (R, True)],
    "custom_generate": [(H, {"max_new_tokens": 2})],
    "trust_remote_code": [(N, False)],
}  # fmt: skip
"""What becomes of each option, and a value for which that is so: the value itself, or all that is given of a call, in
which `named` is what a refusal says where that isn't the option's own name."""


def rows() -> dict[str, set[str]]:
    """The table: each option's outcomes."""
    page = DOCS.read_text(encoding="utf-8").split("## All options of generate", 1)[1].split("\n## ", 1)[0]
    table: dict[str, set[str]] = {}
    for names, outcomes in re.findall(r"^\| (`[^|]*`) \| ([^|]*) \|", page, re.MULTILINE):
        for name in re.findall(r"`([^`]+)`", names):
            assert name not in table, f"{name} has two rows"
            table[name] = set(outcomes.split(", "))
    return table


def test_the_table_has_every_option_that_generate_has():
    keywords = inspect.signature(GenerationMixin.generate).parameters.keys()
    options = (vars(GenerationConfig()).keys() | keywords | BESIDE) - BOOKKEEPING
    assert not options - rows().keys(), "a new option of transformers: what becomes of it?"
    assert rows().keys() == CASES.keys()
    assert {name: {outcome for outcome, _ in cases} for name, cases in CASES.items()} == rows()


@pytest.mark.filterwarnings("ignore:Passing ContinuousBatchingConfig through:FutureWarning")
@pytest.mark.parametrize(
    ("name", "outcome", "value"),
    [pytest.param(name, *case, id=f"{name}-{case[0]}") for name, cases in CASES.items() for case in cases],
)
def test_each_option_is_what_the_table_says(monkeypatch, name, outcome, value):
    given = value() if callable(value) else value
    if not isinstance(given, dict) or name in ("cache_config", "continuous_batching_config"):
        given = {name: given}
    named = given.get("named", name)
    given = {key: each for key, each in given.items() if key != "named"}
    if outcome == R:
        monkeypatch.setattr("transformers.generation.utils.QuantizedCache", lambda **kwargs: None)  # not installed
        refusal = ValueError if name == "token_healing" else OptionError  # where transformers doesn't let it get to us
        with pytest.raises(refusal, match=named) as caught:
            called(given, ours=True)
        assert "\n" not in str(caught.value)
        return
    stock = called(given, ours=False)
    assert called(given, ours=True) == stock
    assert (stock == plain(bool(given.get("do_sample")) and len(given) > 1)) == (outcome == N)


def test_who_wants_no_cache_is_told_that_there_is_one():
    target = tiny.llava_model(0, layers=1)
    given = inputs(num_frames=0) | {"max_new_tokens": 8, "use_cache": False}
    with pytest.warns(OptionWarning, match="use_cache=False: the tokens are the same"):
        mine = target.generate(**given, custom_generate=specvlm.custom_generate)
    assert mine.tolist() == target.generate(**given).tolist()


def test_what_guesses_is_said_to_do_nothing_without_a_draft():
    """Once for each model: a second warning would be an error."""
    target = tiny.llava_model(0, layers=1)
    given = inputs(num_frames=0) | {"max_new_tokens": 2, "custom_generate": specvlm.custom_generate}
    with pytest.warns(OptionWarning, match="pruner, pruning_ratio: nothing is guessed without a draft"):
        target.generate(**given, pruner="uniform", pruning_ratio=0.5)
    target.generate(**given, pruner="uniform", pruning_ratio=0.5)


def test_a_scope_of_its_own_memory_is_refused_to_a_draft_that_has_another():
    with pytest.raises(OptionError, match="self_scope='head' is for a target that is its own draft"):
        called({"self_scope": "head", "tree": "chain"} | {"custom_generate": specvlm.custom_generate}
               | {"draft_model": models()[1]}, ours=False)  # fmt: skip


@pytest.mark.parametrize("token", [10**6, -1])
def test_a_token_that_has_no_embedding_is_refused_where_stock_raises(token):
    given = inputs(num_frames=0)
    ids = given["input_ids"].clone()
    ids[0, 1] = token
    with pytest.raises(IndexError):
        called({"input_ids": ids}, ours=False)
    with pytest.raises(OptionError, match=f"input_ids hold {token}, and .* has embeddings for 0 to "):
        called({"input_ids": ids}, ours=True)
