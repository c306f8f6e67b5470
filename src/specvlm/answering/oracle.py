"""The oracle: stock Hugging Face `generate` on the same prompt. What it says is right, by definition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import torch
from transformers.generation.streamers import BaseStreamer

from specvlm.answering.answer import Generation
from specvlm.answering.options import Options
from specvlm.answering.recipe import prepare_generation, with_length
from specvlm.engine.sequence import FinishReason
from specvlm.engine.stats import Stats
from specvlm.errors import OptionError
from specvlm.families import Family
from specvlm.families.releases import refuse_wrong_chunks
from specvlm.families.whereabouts import device_of_work
from specvlm.prompts.album import LateInputs
from specvlm.prompts.prompt import Prompt

OnTokens = Callable[[tuple[int, ...]], None]
"""Told of tokens as they come. What it raises ends the answer."""

TOKENS_ALONE = dict.fromkeys(
    ("return_dict_in_generate", "output_scores", "output_logits", "output_attentions", "output_hidden_states"), False
)
"""Whatever else a checkpoint's generation config may want returned."""


class _Clock(BaseStreamer):
    """Tells the stats when tokens arrive. The first call brings the prompt, each later one what a forward of the model
    gave: one token or, with aids, some."""

    def __init__(self, stats: Stats, on_tokens: OnTokens | None) -> None:
        self._stats, self._on_tokens, self._calls = stats, on_tokens, 0

    @property
    def num_forwards(self) -> int:
        """Of the model whose answer it is, the prefill included."""
        return self._calls - 1

    def put(self, value: torch.Tensor) -> None:
        self._calls += 1
        if self._calls == 2:
            self._stats.first_token()
            self._stats.decode_begins()
        if self._calls > 1 and self._on_tokens is not None:
            self._on_tokens(tuple(value.flatten().tolist()))

    def end(self) -> None:
        pass


def refuse_unless_comparable(family: Family, prompt: Prompt, options: Options) -> None:
    """What specvlm doesn't decode, its oracle doesn't either: there is nothing that its answer could be compared with.

    Errors: OptionError, as an answer of specvlm's own has it; and for a cache that stock can't have on this machine.
    """
    recipe = prepare_generation(family, prompt.input_ids, options)
    recipe.chooser(None, strict=options.strict)
    refuse_wrong_chunks(recipe.config.prefill_chunk_size, prompt.num_video_tokens)
    cache = family.model.generation_config.cache_implementation
    if cache is not None and cache.startswith("offloaded") and device_of_work(family.model).type == "cpu":
        raise OptionError(f"cache_implementation={cache!r} is for models on an accelerator, and this one is on the CPU")


def generate_stock(
    family: Family,
    prompt: Prompt,
    options: Options,
    stats: Stats,
    *,
    on_tokens: OnTokens | None = None,
    **aids: Any,
) -> tuple[tuple[int, ...], FinishReason]:
    """The tokens of `model.generate(**inputs)`, and why it stopped. Vision is inside `prefill_target` here.

    `aids` are what `generate` can be helped with: an `assistant_model`, `prompt_lookup_num_tokens`. Its first forward
    checks guesses too, and so brings more than a token: these count for its acceptance, and come before the clock of
    decoding starts.

    With a seed, torch's global generator is set to it for the call and put back as it was.
    Errors: whatever `generate` raises, of aids that it can't use.
    """
    stats.num_prompt_tokens, stats.num_video_tokens = prompt.num_tokens, prompt.num_video_tokens
    stats.num_kept = prompt.num_video_tokens
    options = with_length(family, prompt.num_tokens, options)
    if options.max_new_tokens == 0:
        return (), "length"
    model, device, clock = family.model, device_of_work(family.model), _Clock(stats, on_tokens)
    inputs = {
        # What isn't pixels stays as exact as it came: times decide positions.
        name: value.to(device, model.dtype if name.startswith("pixel_values") else None)
        for name, value in prompt.model_inputs.items()
    }
    devices = [device] if device.type == "cuda" else []
    with family.as_found(), torch.random.fork_rng(devices, enabled=options.seed is not None):
        if options.seed is not None:
            torch.manual_seed(options.seed)
        output: Any = cast(Any, model).generate(
            **inputs, **options.generate_kwargs(), **TOKENS_ALONE, **aids, tokenizer=family.tokenizer, streamer=clock
        )
    tokens = tuple(output[0, prompt.num_tokens :].tolist())
    stats.num_rounds = clock.num_forwards - 1
    eos = model.generation_config.eos_token_id
    eos_ids = [eos] if isinstance(eos, int) else eos or []
    if tokens[-1] in eos_ids:
        return tokens, "eos"
    most = options.max_new_tokens
    if most is not None and len(tokens) < most:
        return tokens, "stop"
    criterion = None
    if options.stop or model.generation_config.stop_strings:  # one of them may end just where the length does
        rules = prepare_generation(family, prompt.input_ids, options)
        criterion = rules.stopping(len(tokens)).criterion
    return tokens, "stop" if criterion is not None and criterion(output) else "length"


def stock_answer(
    target: Family,
    prompt: Prompt,
    options: Options,
    stats: Stats,
    *,
    on_tokens: OnTokens | None = None,
    **aids: Any,
) -> Generation:
    """What stock Hugging Face `generate` says, by itself or with the keywords `aids`; `on_tokens` hears it say so.

    Errors: OptionError for what specvlm doesn't decode itself.
    """
    with stats.stopped():
        refuse_unless_comparable(target, prompt, options)
        target.decoder.warn_beyond(prompt.next_position)
    if isinstance(prompt.model_inputs, LateInputs):
        with stats.phase("preprocess"):  # to fetch pixels is no part of what stock does
            prompt = replace(prompt, model_inputs=dict(prompt.model_inputs))
    with stats.phase("prefill_target"):
        tokens, reason = generate_stock(target, prompt, options, stats, on_tokens=on_tokens, **aids)
    stats.finish(len(tokens))
    stats.move("prefill_target", "verify", stats.decode_seconds)
    text = str(target.tokenizer.decode(list(tokens), skip_special_tokens=True))
    return Generation(tokens, text, reason, stats)
