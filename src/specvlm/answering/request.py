"""The life of one request, from a prompt to the last token: where target, pruner, draft and engine meet."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, final
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Int
from torch import Tensor, nn

from specvlm.answering.dice import AsideDrafter, aside
from specvlm.answering.options import Options
from specvlm.answering.pair import Pair, check_forwards
from specvlm.answering.placing import Place, place
from specvlm.answering.recipe import Recipe, with_length
from specvlm.engine.attention import ScoreRecorder
from specvlm.engine.caches.borrowed_cache import BorrowedCache
from specvlm.engine.caches.kv_cache import KVCache
from specvlm.engine.decoder import Embeds
from specvlm.engine.drafting import Drafter, ModelDrafter, NoDrafter
from specvlm.engine.loop import decode, first_token, prefill
from specvlm.engine.self_drafting import SelfDrafter
from specvlm.engine.sequence import Sequence
from specvlm.engine.stats import Stats
from specvlm.engine.tree import TreeShape
from specvlm.errors import OptionError, OptionWarning
from specvlm.families import Family
from specvlm.families.checks.model_objects import refuse_unless_followed
from specvlm.families.releases import refuse_wrong_chunks
from specvlm.families.sights import Sights
from specvlm.planning.tree import MAX_NODES
from specvlm.prompts.prompt import Prompt
from specvlm.pruning import num_kept_tokens, select_per_clip, select_per_head

ShapeOver = Callable[[KVCache], TreeShape]
"""The shape of the trees that are grown over a draft's cache."""

MAX_PREALLOCATED_TOKENS = 4096
"""A cache has room for the prompt and this much of an answer from the start; a longer answer lets it grow."""


_TOLD: WeakKeyDictionary[nn.Module, set[str]] = WeakKeyDictionary()
"""What was said of answers of a model."""


def measure(pair: Pair, options: Options) -> None:
    """Have the plan measure what it measures once, for all answers with such options."""
    if (
        options.planned and pair.draft is not None and options.max_new_tokens not in (0, 1)
    ):  # the first token needs no guess
        with aside(pair)():
            pair.planner(False, place(pair, options).stage)


def start_clock(pair: Pair, options: Options) -> Stats:
    """Statistics of an answer that begins now. What the plan measures, it has measured before."""
    measure(pair, options)
    return Stats(pair.devices)


def begin(
    pair: Pair,
    prompt: Prompt,
    recipe: Recipe,
    options: Options,
    stats: Stats,
    generator: torch.Generator | None = None,
) -> Sequence:
    """The state of an answer that has not begun: an empty cache of the right size, the rules it will follow.

    Errors: OptionError for options that this pair can't follow; ModelError for a model that was changed so that specvlm
    can't follow it, or for an answer that is too long for it.
    """
    for family in (pair.target, pair.draft):
        if isinstance(family, Family):
            refuse_unless_followed(family.model, family.name, family.taken_apart)
    with aside(pair)():
        check_forwards(pair.target, pair.draft)  # with the hooks and layers that they have today
    if options.vision == "shared" and not pair.one_tower:
        raise OptionError("vision='shared' needs two models with the same vision tower, and their weights differ")
    if options.positions == "compact" and pair.draft == "self":
        raise OptionError("positions='compact' is for a draft model: a target that is its own draft moves nothing")
    if options.self_scope == "head" and isinstance(pair.draft, Family):
        raise OptionError("self_scope='head' is for a target that is its own draft: a draft model keeps what it reads")
    refuse_ids_beyond(pair.target, prompt)
    for line in options.idle(drafts=pair.draft is not None):
        tell_once(pair.target, line)
    refuse_wrong_chunks(recipe.config.prefill_chunk_size, prompt.num_video_tokens)
    stats.num_prompt_tokens, stats.num_video_tokens = prompt.num_tokens, prompt.num_video_tokens
    stats.num_kept = prompt.num_video_tokens
    num_asked = with_length(pair.target, prompt.num_tokens, options).max_new_tokens
    assert num_asked is not None
    stopping = recipe.stopping(num_asked)
    # No guess stands further than the last token that plain decoding would read.
    answered = prompt.next_position + max(0, stopping.max_new_tokens - 1)
    pair.target.decoder.refuse_beyond(max(int(prompt.position_ids.max()) + 1, answered))
    pair.target.decoder.warn_beyond(prompt.next_position)
    fixed = prompt.num_tokens + (1 if pair.draft is None else _most_nodes(options))
    stage = place(pair, options).stage
    room = fixed + min(stopping.max_new_tokens, MAX_PREALLOCATED_TOKENS)
    cache = pair.target.decoder.new_cache(room, fixed + stopping.max_new_tokens)
    return Sequence(
        prompt_ids=prompt.input_ids,
        next_position=prompt.next_position,
        cache=cache if stage is None else stage.target_cache(room),
        chooser=recipe.chooser(generator, strict=options.strict),
        stopping=stopping,
        stats=stats,
    )


def tell_once(target: Family, line: str) -> None:
    """Warn of an option that does nothing (`OptionWarning`): once for each model, however many answers it gives."""
    told = _TOLD.setdefault(target.model, set())
    if line not in told:
        told.add(line)
        warnings.warn(line, OptionWarning, stacklevel=2)


def refuse_ids_beyond(target: Family, prompt: Prompt) -> None:
    """Errors: OptionError for a token that the target's embedding has no row for, where stock `generate` has an
    IndexError. (Place-holders are no words: what stands there is seen.)"""
    embedding: Any = target.model.get_input_embeddings()
    num_rows = embedding.weight.shape[0]
    words = prompt.input_ids[~prompt.video_mask.to(prompt.input_ids.device)]
    odd = words[(words < 0) | (words >= num_rows)].tolist()
    if odd:
        raise OptionError(f"input_ids hold {odd[0]}, and {target.name} has embeddings for 0 to {num_rows - 1}")


def run(
    pair: Pair, prompt: Prompt, options: Options, sequence: Sequence, sights: Sights | None = None
) -> Iterator[tuple[int, ...]]:
    """Yield the tokens of the answer as they become known; afterwards `sequence` holds them and the reason to stop.

    What is known already is used: the first tokens of the prompt, if the sequence's cache isn't empty, and the frames
    that `sights` remember. The prompt has been read when the first token is yielded.
    """
    if sequence.num_left < 1:
        sequence.finish_reason = "length"
        return
    target, stats = pair.target, sequence.stats
    draft, ratio, planner = pair.draft, options.fixed_pruning_ratio, None
    placed = place(pair, options)
    pruner, spared = options.make_pruner(), frozenset() if options.prune_images else prompt.still_ids
    dice = nullcontext if draft is None else aside(pair, pruner, options.tree_shape())
    if draft is not None and options.planned and sequence.num_left > 1:
        # A first answer that isn't greedy, or not by itself, may need another measurement.
        with stats.stopped(), dice():
            chooser = sequence.chooser
            picks = chooser.do_sample or chooser.processors is not None
            planner = pair.planner(chooser.do_sample, placed.stage_of(sequence), picks=picks)
        if options.pruning_ratio is None:
            ratio = planner.pruning_ratio(prompt.num_tokens, prompt.num_video_tokens, sequence.num_left)
    num_keep = num_kept_tokens(ratio, prompt.clip_ids, spared)
    num_pruned = prompt.num_video_tokens - num_keep
    if planner is not None and not planner.drafts(prompt.num_tokens, prompt.num_tokens - num_pruned, sequence.num_left):
        draft = None
    prunes = draft is not None and num_pruned > 0
    by_head = draft == "self" and options.self_scope == "head"
    if isinstance(draft, Family) and sequence.num_left > 1:
        # Now, and not when the first token has been told.
        _refuse_unfit(draft, _draft_room(options, sequence, prompt.num_tokens - num_pruned))

    sights = Sights() if sights is None else sights
    sequence.cache.truncate(prompt.num_tokens - 1)  # the answer begins with what follows from the last token
    recorder = None
    if prunes and pruner.needs_scores:
        # The text behind the video is watched, and where there is none the prompt's last token.
        columns, first_row = prompt.video_mask.nonzero()[:, 0], min(prompt.split, prompt.num_tokens - 1)
        recorder = ScoreRecorder(columns, first_row, per_head=by_head)
        sequence.cache.truncate(first_row)
    start, embeds = sequence.cache.length, None
    stats.num_known = start
    needs_features = prunes and pruner.needs_features
    if needs_features or (start < prompt.split and options.prefill_chunk is None):
        with stats.phase("vision_target"):
            embeds = target.embed(prompt, sights.of(target, prompt))
    with stats.phase("prefill_target"):
        if embeds is None:
            unread = Unseen(target, prompt.piece(start, prompt.num_tokens), sights, stats)
        else:
            unread = embeds.piece(start, prompt.num_tokens)
        positions = prompt.position_ids[:, start:]
        logits = prefill(target.decoder, sequence, unread, positions, recorder, options.prefill_chunk)
    stats.video_bytes = sequence.cache.bytes_per_position * prompt.num_video_tokens
    if recorder is not None:
        stats.move("prefill_target", "scoring", recorder.seconds)
    yield (first_token(sequence, logits),)
    if sequence.finish_reason is not None:
        return

    kept = torch.arange(prompt.num_video_tokens)
    if prunes:
        with stats.phase("pruning"):
            features = None
            if embeds is not None and pruner.needs_features:
                features = embeds.rows[prompt.video_mask.to(embeds.rows.device)]
            select = select_per_head if by_head else select_per_clip
            with dice():
                kept = select(
                    pruner,
                    pruning_ratio=ratio,
                    clip_ids=prompt.clip_ids,
                    spared=spared,
                    frame_ids=prompt.frame_ids,
                    place_ids=prompt.place_ids,
                    scores=None if recorder is None else recorder.scores_per_head() if by_head else recorder.scores(),
                    features=features,
                )
        stats.num_kept = kept.shape[-1]
    if draft is not None:
        stats.kept = kept
    del embeds, unread, logits
    shape_over = (lambda cache: options.tree_shape()) if planner is None else partial(planner.shape, sequence.cache)
    with dice():
        if draft is None:
            drafter = NoDrafter()
        elif draft == "self":
            drafter = _draft_by_itself(target, prompt, kept, shape_over, sequence)
        else:
            drafter = _draft_by_model(pair, draft, prompt, kept, sights, options, shape_over, sequence, placed)
    del sights
    player = placed.player(sequence, drafter)
    if dice is not nullcontext and player is None:  # on the device there are no strangers
        drafter = AsideDrafter(drafter, dice)
    yield from decode(target.decoder, sequence, drafter, player)
    if planner is not None:
        cut = sequence.finish_reason == "length"
        planner.learn(None if draft is None else ratio, len(sequence.tokens), stats, cut=cut)


@final
@dataclass(frozen=True, eq=False)
class Unseen:
    """A part of a prompt that is seen and embedded as it is read: its first tokens while frames of the last are still
    being decoded."""

    target: Family
    prompt: Prompt
    sights: Sights
    stats: Stats

    def __len__(self) -> int:
        return self.prompt.num_tokens

    def piece(self, start: int, end: int) -> Embeds:
        piece = self.prompt.piece(start, end)
        if piece.num_video_tokens == 0:
            return Embeds(self.target.decoder.embed(piece.input_ids))
        with self.stats.phase("vision_target"):
            return self.target.embed(piece, self.sights.of(self.target, piece))


def _most_nodes(options: Options) -> int:
    """Of any tree of the answer, its root included: what caches need room for."""
    return 1 + MAX_NODES if options.planned else options.tree_shape().max_nodes


def _draft_room(options: Options, sequence: Sequence, num_tokens: int) -> int:
    """The positions that a draft needs whose prompt has so many tokens."""
    return num_tokens + min(sequence.stopping.max_new_tokens, MAX_PREALLOCATED_TOKENS) + _most_nodes(options)


def _refuse_unfit(draft: Family, room: int) -> None:
    """Errors: ModelError for a draft that can't read so many positions, or has an attention by now that isn't stock."""
    draft.decoder.new_cache(room)  # it refuses what can't be rolled back, and holds nothing yet
    draft.decoder.refuse_foreign_attention()


def _draft_by_model(
    pair: Pair,
    draft: Family,
    prompt: Prompt,
    kept: Int[Tensor, " K"],
    sights: Sights,
    options: Options,
    shape_over: ShapeOver,
    sequence: Sequence,
    placed: Place,
) -> Drafter:
    """A smaller model that knows the video tokens `kept` alone."""
    pruned = prompt.prune(kept, options.positions or draft.positions)
    with sequence.stats.phase("vision_draft"):
        if options.vision == "full":
            seen = sights.of(draft, prompt)
        elif options.vision == "spared" or not pair.one_tower:
            seen = sights.of(draft, pruned)
        else:
            seen = sights.of(pair.target, prompt)
        embeds = draft.embed(pruned, seen)
    with sequence.stats.phase("prefill_draft"):
        room = _draft_room(options, sequence, pruned.num_tokens)
        cache = draft.decoder.new_cache(room)
        if placed.stage is not None:
            cache = placed.stage.draft_cache(room)
        draft.decoder.prefill(embeds, pruned.position_ids, cache)
        sequence.stats.draft_bytes = cache.nbytes
        return ModelDrafter(draft.decoder, shape_over(cache), cache, pruned.next_position, pair.target.vocab_size)


def _draft_by_itself(
    target: Family, prompt: Prompt, kept: Int[Tensor, "*heads K"], shape_over: ShapeOver, sequence: Sequence
) -> Drafter:
    """The target, looking at the video tokens `kept` of its own cache alone."""
    with sequence.stats.phase("pruning"):
        cache = BorrowedCache(sequence.cache, prompt.video_mask.nonzero()[:, 0], kept)
        sequence.stats.draft_bytes = cache.extra_bytes
    sequence.stats.phases |= {"vision_draft": 0.0, "prefill_draft": 0.0}  # there is nothing to see or to prefill
    return SelfDrafter(target.decoder, shape_over(cache), cache, sequence.next_position, target.vocab_size)
