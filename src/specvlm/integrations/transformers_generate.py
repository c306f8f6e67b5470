"""The drop-in for transformers: `model.generate(**inputs, custom_generate=specvlm.custom_generate, draft_model=draft)`.

`generate` prepares the prompt, the logits processors and the stopping criteria as it always does; only the loop that
decodes is ours. So the tokens are those of the same call without `custom_generate`, for the same seed too.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import GenerationConfig, GenerationMixin, LogitsProcessorList, PreTrainedModel, StoppingCriteriaList
from transformers.generation.stopping_criteria import MaxLengthCriteria, StopStringCriteria
from transformers.generation.utils import GenerateDecoderOnlyOutput

from specvlm.answering import request
from specvlm.answering.options import Options, Plan, SelfScope, TreeName, VisionPolicy
from specvlm.answering.pair import Pair, Planners, check_layout
from specvlm.answering.recipe import Recipe
from specvlm.engine.stats import Stats
from specvlm.engine.tree import TreeShape
from specvlm.errors import ModelError, OptionError
from specvlm.families import Family, family_of
from specvlm.families.checks.model_objects import refuse_unless_followed, unwrapped
from specvlm.families.loading import name_of
from specvlm.families.releases import CACHE_NAMES, cache_name
from specvlm.prompts.prompt import PositionPolicy, Prompt
from specvlm.pruning import Pruner

POSITIONAL = ("image_grid_thw", "video_grid_thw", "second_per_grid_ts", "mm_token_type_ids")
"""What decides about positions. `generate` uses it up before we see it, or, if we named it, never would."""

_LEARNT: WeakKeyDictionary[nn.Module, WeakKeyDictionary[nn.Module, dict[tuple, Planners]]] = WeakKeyDictionary()
"""What plans have learnt of a target with a draft, from one call to the next: for as long as there are both models."""


def custom_generate(
    model: PreTrainedModel,
    input_ids: Int[Tensor, "batch length"],
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    *,
    draft_model: object = None,
    pruner: str | Pruner = Options.pruner,
    pruning_ratio: float | None = Options.pruning_ratio,
    positions: PositionPolicy | None = Options.positions,
    prune_images: bool = Options.prune_images,
    vision: VisionPolicy = Options.vision,
    self_scope: SelfScope = Options.self_scope,
    plan: Plan | None = Options.plan,
    tree: TreeName | TreeShape | Sequence[Sequence[int]] | None = Options.tree,
    depth: int | None = Options.depth,
    num_nodes: int | None = Options.num_nodes,
    width: int | None = Options.width,
    strict: bool = Options.strict,
    stats: Stats | None = None,
    stop_strings: str | list[str] | None = None,
    pixel_values: Tensor | None = None,
    pixel_values_videos: Tensor | None = None,
    vision_feature_layer: int | list[int] | None = None,
    vision_feature_select_strategy: str | None = None,
    **model_kwargs: Any,
) -> Int[Tensor, "1 total"] | GenerateDecoderOnlyOutput:
    """The decoding loop that `generate` calls. Not meant to be called by hand: give it to `generate`.

    The caller's own keywords are `draft_model` (a model of the same family, or "self"; None decodes one token a round),
    those that `specvlm.Options` describes under the same names, and `stats`, a fresh `specvlm.Stats` to be filled. The
    others are what `generate` would otherwise use up before we see it: what both models see, and `stop_strings`. Two
    models share their vision here only if they share the tower itself: to compare weights takes too long for each call.

    Returns prompt and answer, or GenerateDecoderOnlyOutput with nothing but `sequences` for `return_dict_in_generate`.
    Errors: ModelError for a model that isn't supported or a draft that doesn't fit; OptionError for whatever would
    change the answer or can't be had here: batches, beams, an assistant, a cache or positions of the caller's own,
    scores, attentions.
    """
    target = _family(model, "the model")
    pair = Pair(target, one_tower=True)
    if isinstance(draft_model, str) and draft_model == "self":
        pair = Pair(target, "self", one_tower=True, planners=_learnt(target, target))
    elif draft_model is not None:
        draft = _family(draft_model, "draft_model")
        check_layout(target, draft)
        one_tower = all(map(operator.is_, target.tower, draft.tower))
        pair = Pair(target, draft, one_tower, planners=_learnt(target, draft))

    call = _arguments_of_generate()
    if call.get("assistant_model") is not None:
        raise OptionError("give the draft as draft_model=...; assistant_model is for generate's own way to guess")
    if call.get("synced_gpus"):
        raise OptionError(
            "synced_gpus=True lets processes take each step together, and those of specvlm are one answer's own: make "
            "it False"
        )
    if stop_strings is not None:
        stopping_criteria = _with_stop_strings(stopping_criteria, stop_strings, call.get("tokenizer"))
    recipe = Recipe(generation_config, logits_processor, stopping_criteria)
    recipe.chooser(
        None, strict=strict
    )  # now, for its errors: to what follows, the beams of a beam search look like a batch
    _refuse_what_we_lack(generation_config)

    max_length = min(rule.max_length for rule in stopping_criteria if type(rule) is MaxLengthCriteria)
    options = Options(
        pruner=pruner,
        pruning_ratio=pruning_ratio,
        positions=positions,
        prune_images=prune_images,
        vision=vision,
        self_scope=self_scope,
        plan=plan,
        tree=tree,
        depth=depth,
        num_nodes=num_nodes,
        width=width,
        strict=strict,
        max_new_tokens=max(1, max_length - input_ids.shape[1]),  # generate looks at the length after the first token
        prefill_chunk=generation_config.prefill_chunk_size,
    )
    inputs = {
        "pixel_values": pixel_values,
        "pixel_values_videos": pixel_values_videos,
        "vision_feature_layer": vision_feature_layer,
        "vision_feature_select_strategy": vision_feature_select_strategy,
    }
    where = {name: call[name] for name in POSITIONAL if call.get(name) is not None}
    prompt = _prompt(target, input_ids, inputs | model_kwargs | where)
    if generation_config.use_cache is False:
        request.tell_once(target, "use_cache=False: the tokens are the same, but specvlm keeps a cache all the same")

    stats = Stats(pair.devices) if stats is None else stats
    sequence = request.begin(pair, prompt, recipe, options, stats)
    sequence.prompt_ids = input_ids[0]  # what processors and criteria look at: the caller's own, padding and all
    streamer = call.get("streamer")
    if streamer is not None:
        sequence.listener = lambda token: streamer.put(torch.tensor([token]))
    for _ in request.run(pair, prompt, options, sequence):
        pass
    if streamer is not None:
        streamer.end()
    stats.finish(len(sequence.tokens))
    sequences = torch.cat([input_ids, input_ids.new_tensor([sequence.tokens])], dim=1)
    if generation_config.return_dict_in_generate:
        return GenerateDecoderOnlyOutput(sequences=sequences)  # type: ignore[arg-type] (transformers says LongTensor)
    return sequences


def _family(model: object, role: str) -> Family:
    if not isinstance(model, nn.Module):
        raise ModelError(f"{role} must be a loaded transformers model, not {model!r}")
    model = unwrapped(model, role)
    name = name_of(model)
    family = family_of(model.config.model_type, name)
    refuse_unless_followed(model, name, family.taken_apart)
    return family(model, None, name)


def _learnt(target: Family, draft: Family) -> Planners:
    """What is known of these two, where they are now and as they are now."""
    of_pair = _LEARNT.setdefault(target.model, WeakKeyDictionary()).setdefault(draft.model, {})
    return of_pair.setdefault((target.model.device, target.model.dtype, draft.model.device, draft.model.dtype), {})


def _arguments_of_generate() -> dict[str, Any]:
    """The arguments of the `generate` call that we are in, as its caller gave them.

    transformers (5.20 to 5.24, where this was read) hands a callable its own keywords and, in exchange, neither the
    streamer, which has heard the prompt by then and would never hear the end, nor the tokenizer or the assistant model.
    So they are looked up where they still are: in the frame of `generate`, or, for keywords that `generate` takes out,
    in that of a decorator around it. How many there are differs from release to release.
    """
    generate: Any = vars(GenerationMixin)["generate"]
    decorators = set()
    while hasattr(generate, "__wrapped__"):
        decorators.add(generate.__code__)
        generate = generate.__wrapped__
    frame = inspect.currentframe()
    while frame is not None and frame.f_code is not generate.__code__:
        frame = frame.f_back
    if frame is None:
        return {}
    arguments = dict(frame.f_locals)
    while (frame := frame.f_back) is not None and frame.f_code in decorators:
        # The innermost one has what `generate` was called with, by the names that it has today.
        if "kwargs" in frame.f_locals:
            return arguments | frame.f_locals["kwargs"]
    return arguments


def _with_stop_strings(criteria: StoppingCriteriaList, stop_strings: str | list[str], tokenizer: Any) -> Any:
    """`criteria` and the one that `generate` would have made; as there, one of the caller's own takes its place."""
    if tokenizer is None:
        raise OptionError(f"stop_strings={stop_strings!r} needs tokenizer=..., the model's tokenizer")
    if any(type(criterion) is StopStringCriteria for criterion in criteria):
        return criteria
    return StoppingCriteriaList([*criteria, StopStringCriteria(tokenizer, stop_strings)])


def _refuse_what_we_lack(config: GenerationConfig) -> None:
    names = ("output_scores", "output_logits", "output_attentions", "output_hidden_states")
    wanted = [name for name in names if getattr(config, name)]
    if config.return_dict_in_generate and wanted:
        raise OptionError(f"{', '.join(wanted)}: specvlm returns nothing but tokens; leave custom_generate out")
    if config.cache_implementation == "quantized":
        raise OptionError("cache_implementation='quantized' changes the tokens; specvlm keeps keys and values exact")


def _prompt(target: Family, input_ids: Int[Tensor, "batch length"], handed: dict[str, Any]) -> Prompt:
    """The Prompt of the caller's inputs, without left padding. `handed` also holds what `generate` adds to them."""
    mask, position_ids = handed.pop("attention_mask", None), handed.pop("position_ids", None)
    features = handed.pop("mm_encoder_outputs", None)
    todays = cache_name(target.model.forward)  # by this name `generate` hands us one; by another only the caller does
    for name in CACHE_NAMES:
        cache = handed.pop(name, None)
        if cache is not None and (name != todays or getattr(cache, "_is_user_defined", False)):
            raise OptionError(f"{name} can't be given: specvlm needs a cache of its own, which it can roll back")
    if features:
        raise OptionError("mm_encoder_outputs can't be given: the draft needs the pixels; give pixel_values_videos")
    real = torch.ones(input_ids.shape[1], dtype=torch.bool)
    if mask is not None:
        real = mask[0].cpu().bool()
        if not real[-1] or (real[:-1] & ~real[1:]).any():
            raise OptionError("attention_mask may hide padding on the left, and nothing else")
    # How to run a forward is our own affair, and what it returns beside logits is nobody's: tokens are all we return.
    ours = ("logits_to_keep", "use_cache", "output_attentions", "output_hidden_states")
    inputs = {name: value for name, value in handed.items() if value is not None and name not in ours}
    if "mm_token_type_ids" in inputs:
        inputs["mm_token_type_ids"] = inputs["mm_token_type_ids"][:, real.to(inputs["mm_token_type_ids"].device)]
    prompt = target.prompt_from_inputs({"input_ids": input_ids.cpu()[:, real]} | inputs)
    # Models with M-RoPE get a row in front of their three, that of plain text, and all of them a batch axis.
    if position_ids is not None and not torch.equal(
        position_ids.cpu()[..., real].reshape(-1, prompt.num_tokens)[-len(prompt.position_ids) :], prompt.position_ids
    ):
        raise OptionError("position_ids can't be given: specvlm counts the prompt's positions itself")
    return prompt
