"""Explanation: one answer taken apart, as plain data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from specvlm.answering.answer import Generation
from specvlm.answering.options import Options
from specvlm.answering.text import TextStream
from specvlm.engine.stats import Round, Stats
from specvlm.errors import OptionError
from specvlm.explain.naming import name_of
from specvlm.explain.places import sights
from specvlm.explain.reading import Reading, watched
from specvlm.families import Family
from specvlm.machine import machine, processor
from specvlm.pipeline import SpecVLM
from specvlm.video import Video

Origin = Literal["first", "drafted", "own"]
"""The prompt's own token, which costs no forward; a guess that was right; the target's own token after such guesses."""


@dataclass(frozen=True)
class Word:
    """One token of the answer. `round` and `depth` say which target forward gave it (from 0; -1: the prefill), and how
    deep in that round's tree it was guessed (0: it wasn't)."""

    text: str
    token_id: int
    origin: Origin
    round: int
    depth: int


@dataclass(frozen=True)
class Tree:
    """The guesses of one round. Node 0 is the last token that was known; `accepted` are the nodes that were right."""

    texts: tuple[str, ...]
    parents: tuple[int, ...]
    depths: tuple[int, ...]
    accepted: frozenset[int]
    own: str
    """The target's own token after them."""
    num_draft_forwards: int

    @property
    def last(self) -> int:
        """The deepest accepted node, behind which the target's own token stands."""
        return max(self.accepted, key=lambda node: self.depths[node])


@dataclass(frozen=True, eq=False)
class Look:
    """What the models made of one or more frames that they take as one. Per place, row by row: the target's attention
    (all places of a video sum to 1, but for tokens without a place), and the stage of the pruner that kept it for the
    draft (1, 2, ...; 0: the draft never saw it)."""

    frames: UInt8[np.ndarray, "T H W 3"]
    seconds: float | None
    scores: Float[np.ndarray, "rows cols"]
    stages: Int[np.ndarray, "rows cols"]


@dataclass(frozen=True, eq=False)
class Explanation:
    """All that the pictures show."""

    video: str
    question: str
    generation: Generation
    options: Options
    words: tuple[Word, ...]
    trees: tuple[Tree, ...]
    looks: tuple[Look, ...]
    num_stages: int
    target: str
    """What people call the model; `draft` likewise."""
    draft: str
    dtype: str
    processor: str
    """What the models ran on."""

    @property
    def attention_range(self) -> tuple[float, float]:
        """Least and most that the target attends to a token, as multiples of the mean; 0 and 0 if to none."""
        least, most, mean = self._attention
        return (least / mean, most / mean) if mean > 0 else (0.0, 0.0)

    def warmth(self, look: Look) -> Float[np.ndarray, "rows cols"]:
        """The attention to a look's tokens on a scale from the video's least to its most attended one, 0 to 1.

        The square root of it, since a few tokens often take most.
        """
        least, most, _ = self._attention
        return np.sqrt((look.scores - least) / (most - least)) if most > least else np.zeros_like(look.scores)

    @cached_property
    def _attention(self) -> tuple[float, float, float]:
        """The least, the most and the mean over all looks."""
        scores = np.concatenate([look.scores.ravel() for look in self.looks]) if self.looks else np.zeros(1)
        return float(scores.min()), float(scores.max()), float(scores.mean())


def explain(vlm: SpecVLM, video: Any, question: str, options: Options | None = None, **overrides: Any) -> Explanation:
    """Answer a question about one video, and keep what happened.

    The prompt is read a second time, and watched, so that attention is known whatever the pruner needs and the times of
    the answer are its own. Errors: OptionError, also without a draft, or for more than one video; VideoError.
    """
    options = Options.of(options, overrides)
    if vlm.draft is None:
        raise OptionError("there is nothing to explain without a draft: load one, or give draft='self'")
    if options.more_videos or options.images or video is None:
        raise OptionError("explain shows one video, without images or other videos beside it")
    clip = vlm.load_video(video, options)
    settled = vlm.once_chosen(options)
    generation = vlm.generate(clip, question, settled)
    prompt = vlm.prepare(clip, question, settled, Stats())
    reading = watched(vlm.target, prompt)
    stages = _stages(options, reading, generation.stats.kept)
    return Explanation(
        video=Path(clip.name).name,
        question=question,
        generation=generation,
        options=options,
        words=tuple(_words(vlm.target, generation)),
        trees=tuple(_tree(vlm.target, each) for each in generation.stats.rounds),
        looks=tuple(_looks(clip, reading, stages)),
        num_stages=int(stages.max()) if len(stages) else 0,
        target=name_of(vlm.target),
        draft=name_of(vlm.draft),
        dtype=str(vlm.target.model.dtype).removeprefix("torch."),
        processor=processor(machine(), vlm.pair.devices),
    )


def _stages(options: Options, reading: Reading, kept: Tensor | None) -> Int[Tensor, " M"]:
    """For each video token the stage that kept it, from 1; 0 if it was left out.

    A token that some head keeps and the pruner as a whole doesn't (`self_scope="head"`) counts for the last stage.
    """
    stages = torch.zeros(reading.prompt.num_video_tokens, dtype=torch.long)
    if kept is None:
        return stages
    by_stage = reading.stages(options.make_pruner(), kept.shape[-1])
    stages[kept.flatten()] = len(by_stage)
    for number, tokens in enumerate(by_stage, start=1):
        stages[tokens] = torch.where(stages[tokens] > 0, number, 0)
    return stages


def _words(target: Family, generation: Generation) -> Iterator[Word]:
    stream = TextStream(target.tokenizer)
    for token, (origin, number, depth) in zip(generation.token_ids, _origins(generation.stats.rounds), strict=True):
        yield Word(stream.add([token]), token, origin, number, depth)


def _origins(rounds: Sequence[Round]) -> Iterator[tuple[Origin, int, int]]:
    yield "first", -1, 0
    for number, each in enumerate(rounds):
        for depth in range(1, len(each.path)):
            yield "drafted", number, depth
        yield "own", number, 0


def _tree(target: Family, each: Round) -> Tree:
    return Tree(
        texts=tuple(_shown(target, token) for token in each.tree.tokens),
        parents=each.tree.parents,
        depths=each.tree.depths,
        accepted=frozenset(each.path),
        own=_shown(target, each.next_token),
        num_draft_forwards=each.num_draft_forwards,
    )


def _shown(target: Family, token: int) -> str:
    return str(target.tokenizer.decode([token]))


def _looks(clip: Video, reading: Reading, stages: Int[Tensor, " M"]) -> Iterator[Look]:
    shares = reading.shares
    for sight in sights(clip, reading.prompt):
        yield Look(sight.frames, sight.seconds, shares[sight.tokens].numpy(), stages[sight.tokens].numpy())
