"""The life of one request, from a prompt to the last token: where target, pruner, draft and engine meet."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from specvlm.engine.attention import ScoreRecorder
from specvlm.engine.drafting import Drafter, ModelDrafter, NoDrafter
from specvlm.engine.loop import decode, first_token, prefill
from specvlm.engine.sequence import Sequence
from specvlm.engine.stats import Stats
from specvlm.families import Family
from specvlm.families.generation import Recipe
from specvlm.options import Options
from specvlm.prompt import Prompt
from specvlm.pruning import PruningContext, num_to_keep

MAX_PREALLOCATED_TOKENS = 4096
"""A cache has room for the prompt and this much of an answer from the start; a longer answer lets it grow."""


def begin(
    target: Family,
    draft: Family | None,
    prompt: Prompt,
    recipe: Recipe,
    options: Options,
    stats: Stats,
    generator: torch.Generator | None = None,
) -> Sequence:
    """The state of an answer that has not begun: an empty cache of the right size, the rules it will follow."""
    stats.num_prompt_tokens, stats.num_video_tokens = prompt.num_tokens, prompt.num_video_tokens
    stats.num_kept = prompt.num_video_tokens
    stopping = recipe.stopping(options.max_new_tokens)
    num_nodes = 1 if draft is None else options.tree_shape().max_nodes
    fixed = prompt.num_tokens + num_nodes
    return Sequence(
        prompt_ids=prompt.input_ids,
        positions=prompt.position_ids.amax(1) + 1,
        cache=target.decoder.new_cache(
            fixed + min(stopping.max_new_tokens, MAX_PREALLOCATED_TOKENS), fixed + stopping.max_new_tokens
        ),
        chooser=recipe.chooser(generator),
        stopping=stopping,
        stats=stats,
    )


def run(
    target: Family, draft: Family | None, prompt: Prompt, options: Options, sequence: Sequence
) -> Iterator[tuple[int, ...]]:
    """Yield the tokens of the answer as they become known; afterwards `sequence` holds them and the reason to stop."""
    if sequence.num_left < 1:
        sequence.finish_reason = "length"
        return
    stats = sequence.stats
    pruner = options.make_pruner()
    num_keep = num_to_keep(prompt.num_video_tokens, options.pruning_ratio)
    prunes = draft is not None and num_keep < prompt.num_video_tokens

    with stats.phase("vision_target"):
        embeds = target.embed(prompt)
    recorder = None
    if prunes and pruner.needs_scores:
        # The text behind the video is watched, and where there is none the prompt's last token.
        recorder = ScoreRecorder(prompt.video_mask.nonzero()[:, 0], min(prompt.split, prompt.num_tokens - 1))
    with stats.phase("prefill_target"):
        logits = prefill(target.decoder, sequence, embeds, prompt.position_ids, recorder, options.prefill_chunk)
    if recorder is not None:
        stats.move("prefill_target", "scoring", recorder.seconds)
    yield (first_token(sequence, logits),)
    if sequence.finish_reason is not None:
        return

    if draft is None:
        yield from decode(target.decoder, sequence, NoDrafter())
        return
    if prunes:
        with stats.phase("pruning"):
            context = PruningContext(
                num_keep=num_keep,
                frame_ids=prompt.frame_ids,
                place_ids=prompt.place_ids,
                scores=recorder.scores().cpu() if recorder is not None else None,
                features=embeds[prompt.video_mask.to(embeds.device)] if pruner.needs_features else None,
            )
            kept = pruner.select(context)
            prompt = prompt.prune(kept.cpu(), options.positions)
            stats.num_kept = len(kept)
    del embeds, logits
    yield from decode(target.decoder, sequence, _make_drafter(target, draft, prompt, options, sequence))


def _make_drafter(target: Family, draft: Family, prompt: Prompt, options: Options, sequence: Sequence) -> Drafter:
    """The draft, having seen the pruned prompt."""
    with sequence.stats.phase("vision_draft"):
        embeds = draft.embed(prompt)
    with sequence.stats.phase("prefill_draft"):
        return ModelDrafter(
            draft.decoder,
            options.tree_shape(),
            embeds,
            prompt.position_ids,
            min(sequence.stopping.max_new_tokens, MAX_PREALLOCATED_TOKENS),
            target.decoder.vocab_size,
        )
