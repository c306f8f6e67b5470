"""Stock generate and what transformers itself helps it with: an assistant, looking up, a cache of fixed size."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from specvlm.answering.answer import Generation
from specvlm.answering.answerer import Answerer
from specvlm.answering.options import Options
from specvlm.answering.oracle import stock_answer
from specvlm.answering.recipe import prepare_generation
from specvlm.engine.stats import Stats
from specvlm.errors import OptionError
from specvlm.families import Family
from specvlm.families.releases import refuse_static_assistance

LOOKED_UP_TOKENS = 10
"""`prompt_lookup_num_tokens` of the arm `prompt_lookup`: what transformers' own documentation uses."""

STATIC = {"cache_implementation": "static"}
"""A cache of fixed size, for which transformers compiles the steps of decoding on a GPU by itself."""

REMEMBERED_LENGTH = "_previous_max_cache_length"
"""Where transformers notes on a model how long a static cache was, so that no later one is shorter."""

LEFT_BEHIND = (REMEMBERED_LENGTH, "_compiled_call", "_last_compile_config")
"""What `generate` with a static cache leaves on a model. What it has compiled, torch finds again without that."""


def plain(vlm: Answerer, video: Any, question: str, options: Options) -> Generation:
    """As found: with whatever attention torch chooses."""
    return vlm.autoregressive(video, question, options)


def without_cudnn(vlm: Answerer, video: Any, question: str, options: Options) -> Generation:
    """With all attention kernels of torch but cuDNN's."""
    with cudnn_attention_off():
        return vlm.autoregressive(video, question, options)


def static(vlm: Answerer, video: Any, question: str, options: Options) -> Generation:
    return _aided(vlm, video, question, options, STATIC)


def looking_up(vlm: Answerer, video: Any, question: str, options: Options) -> Generation:
    return _guessing(vlm, video, question, options, {"prompt_lookup_num_tokens": LOOKED_UP_TOKENS})


def assisted(vlm: Answerer, video: Any, question: str, options: Options) -> Generation:
    return _assisted(vlm, video, question, options, {})


def assisted_static(vlm: Answerer, video: Any, question: str, options: Options) -> Generation:
    refuse_static_assistance()
    return _assisted(vlm, video, question, options, STATIC)


def _assisted(vlm: Answerer, video: Any, question: str, options: Options, aids: Mapping[str, Any]) -> Generation:
    """As its documentation says: a second model and, where the models' tables differ in size, a second tokenizer."""
    draft = vlm.draft
    if draft is None or draft == "self":
        raise OptionError("transformers' assistant is another model: the target can't be its own")
    aids = {**aids, "assistant_model": draft.model}
    tables = {family.model.config.get_text_config().vocab_size for family in (vlm.target, draft)}
    if len(tables) > 1:
        aids["assistant_tokenizer"] = draft.tokenizer
    with _config_as_found(draft), draft.as_found():
        return _guessing(vlm, video, question, options, aids)


def _guessing(vlm: Answerer, video: Any, question: str, options: Options, aids: Mapping[str, Any]) -> Generation:
    """transformers' own speculation, spared what cuDNN's attention costs: a peer shall be as fast as it can."""
    with cudnn_attention_off():
        return _aided(vlm, video, question, options, aids, greedy=True)


def _aided(
    vlm: Answerer, video: Any, question: str, options: Options, aids: Mapping[str, Any], *, greedy: bool = False
) -> Generation:
    """Stock `generate` with a help of its own against the wait."""
    stats = Stats(vlm.pair.devices)
    prompt = vlm.prepare(video, question, options, stats)
    if greedy and prepare_generation(vlm.target, prompt.input_ids, options).config.do_sample:
        raise OptionError("transformers draws other random numbers when it speculates: only greedy answers compare")
    with left_as_found(vlm.target.model):
        return stock_answer(vlm.target, prompt, options, stats, **aids)


@contextmanager
def _config_as_found(draft: Family) -> Iterator[None]:
    """transformers writes what it learns about an assistant into its generation config."""
    model: Any = draft.model
    found = model.generation_config
    model.generation_config = copy.deepcopy(found)
    try:
        yield
    finally:
        model.generation_config = found


@contextmanager
def left_as_found(model: Any) -> Iterator[None]:
    """Nothing is left behind on a model; and a static cache is as long as its own answer needs, not as the longest one
    ever."""
    notes = vars(model)
    found = {name: notes[name] for name in LEFT_BEHIND if name in notes}
    notes.pop(REMEMBERED_LENGTH, None)
    try:
        yield
    finally:
        for name in LEFT_BEHIND:
            notes.pop(name, None)
        notes.update(found)


@contextmanager
def cudnn_attention_off(switch: Any = torch.backends.cuda) -> Iterator[None]:
    """A block without it, in the whole process: torch has one switch for all threads."""
    found = switch.cudnn_sdp_enabled()
    switch.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        switch.enable_cudnn_sdp(found)


def cudnn_attends(
    device: torch.device,
    dtype: torch.dtype,
    *,
    switch: Any = torch.backends.cuda,
    capability: Callable[[torch.device], tuple[int, int]] = torch.cuda.get_device_capability,
) -> bool:
    """Whether torch may choose cuDNN's attention for a model there: on Hopper and later, in half precision.

    It makes a plan for each length of keys that it hasn't met, which takes longer than a token: docs/gpu.md.
    """
    half = dtype in (torch.bfloat16, torch.float16)
    return device.type == "cuda" and half and switch.cudnn_sdp_enabled() and capability(device) >= (9, 0)
