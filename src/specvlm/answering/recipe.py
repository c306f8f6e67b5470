"""What stock `generate` would do with the logits: its processors, its stopping criteria, its checks.

Rather than rebuilding them from the generation config, we let `generate` itself prepare everything and hand it over
at the door that it has for custom decoding loops.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteriaList,
    SynthIDTextWatermarkLogitsProcessor,
    UnbatchedClassifierFreeGuidanceLogitsProcessor,
)
from transformers.generation.configuration_utils import GenerationMode
from transformers.generation.stopping_criteria import EosTokenCriteria, MaxLengthCriteria, StopStringCriteria

from specvlm.answering.options import Options
from specvlm.engine.sampling import Chooser, Processor
from specvlm.engine.sequence import Stopping
from specvlm.errors import OptionError, brief
from specvlm.families.base import Family
from specvlm.families.whereabouts import device_of_work

CLOSE = 8.0
"""Units of rounding within which two forwards of one text may disagree about the better of two tokens."""

MOST_NEW_TOKENS = 256
"""Of an answer where nobody says how many, the checkpoint neither. Stock's own default of 20 ends in mid-sentence."""


@dataclass(frozen=True)
class Recipe:
    """How one answer is decoded: the merged config, the logits processors and the stopping criteria."""

    config: GenerationConfig
    processors: LogitsProcessorList
    criteria: StoppingCriteriaList

    def chooser(self, generator: torch.Generator | None, *, strict: bool = False) -> Chooser:
        """`strict`: what is too close to call is left open (`Chooser.doubt`).

        Errors: OptionError for a way of decoding, or a processor, that a tree can't be verified with."""
        refuse_what_no_answer_shows(self.config)
        mode = self.config.get_generation_mode()
        if mode not in (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE):
            raise OptionError(f"the generation config asks for {mode.value}; specvlm decodes greedily or by sampling")
        if (self.config.num_return_sequences or 1) != 1:
            raise OptionError(f"num_return_sequences must be 1, not {self.config.num_return_sequences}")
        for processor in self.processors:
            if isinstance(
                processor,
                (UnbatchedClassifierFreeGuidanceLogitsProcessor, SynthIDTextWatermarkLogitsProcessor),
            ):
                raise OptionError(
                    f"{type(processor).__name__} keeps a memory of its own between tokens, and can't look at guesses"
                )
        if strict and self.config.do_sample:
            raise OptionError("strict=True is for greedy answers (do_sample=False): draws have no near ties to look at")
        processors = cast(Processor, self.processors) if self.processors else None
        return Chooser(processors, bool(self.config.do_sample), generator, CLOSE if strict else 0.0)

    def stopping(self, max_new_tokens: int) -> Stopping:
        """The criteria, with those that every answer has taken apart, so that they cost nothing per token. A subclass
        of theirs has a rule of its own, and is asked like any other."""
        eos_ids: set[int] = set()
        others = []
        for criterion in self.criteria:
            if type(criterion) is EosTokenCriteria:
                eos_ids.update(criterion.eos_token_id.flatten().tolist())
            elif type(criterion) is not MaxLengthCriteria:
                others.append(criterion)
        rest = StoppingCriteriaList(others)
        criterion = (lambda ids: bool(rest(ids, None).all())) if others else None
        return Stopping(max_new_tokens, frozenset(eos_ids), criterion)


def with_length(family: Family, num_prompt_tokens: int, options: Options) -> Options:
    """The options with their `max_new_tokens`: as asked for, or as the checkpoint's generation config has it, which may
    count the prompt (`max_length`), or MOST_NEW_TOKENS. Errors: OptionError if the prompt alone is too long for that.
    """
    if options.max_new_tokens is not None:
        return options
    config = family.model.generation_config
    most = config.max_new_tokens
    if most is None and config.max_length is not None:
        most = config.max_length - num_prompt_tokens
        if most < 1:
            raise OptionError(
                f"the generation config of {family.name} has max_length={config.max_length}, which a prompt of "
                f"{num_prompt_tokens} tokens fills: give max_new_tokens"
            )
    return replace(options, max_new_tokens=MOST_NEW_TOKENS if most is None else most)


def refuse_what_no_answer_shows(config: GenerationConfig) -> None:
    """Settings that make `generate` answer otherwise, and that neither its mode nor its processors tell of.

    Errors: OptionError.
    """
    if config.token_healing:
        raise OptionError("the generation config asks for token_healing, which rewrites the prompt: make it False")
    if config.is_assistant:
        raise OptionError("the generation config has is_assistant=True, and guesses for another model: make it False")
    if config.cache_implementation == "quantized":
        raise OptionError("cache_implementation='quantized' changes the tokens; specvlm keeps keys and values exact")


def _hand_over(
    model: PreTrainedModel,
    input_ids: Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    **model_kwargs: Any,
) -> Recipe:
    """A decoding loop that decodes nothing: `generate` calls it with all that it has prepared."""
    return Recipe(generation_config, logits_processor, stopping_criteria)


def prepare_generation(family: Family, input_ids: Int[Tensor, " L"], options: Options) -> Recipe:
    """What `model.generate` would decode with. Errors: OptionError, with generate's own reason."""
    model = cast(Any, family.model)
    ids = input_ids[None].to(device_of_work(model))
    refuse_what_no_answer_shows(model.generation_config)
    kwargs = with_length(family, len(input_ids), options).generate_kwargs()
    kwargs["max_new_tokens"] = max(1, kwargs["max_new_tokens"])  # generate itself refuses to emit nothing
    # Before it calls a custom loop `generate` drops the tokenizer that stop strings need, so we make their criterion.
    stop_strings = kwargs.pop("stop_strings", None) or model.generation_config.stop_strings
    criteria = [StopStringCriteria(family.tokenizer, stop_strings)] if stop_strings else []
    try:
        with family.as_found():
            # Without pixels this costs nothing: no forward is run.
            return model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                custom_generate=_hand_over,
                stopping_criteria=StoppingCriteriaList(criteria),
                stop_strings=None,
                use_cache=False,  # nor a cache: it may want memory, and what there is of it would be thrown away
                **kwargs,
            )
    except (ValueError, TypeError) as error:
        raise OptionError(f"transformers' generate refuses these options: {brief(error, 500)}") from None
