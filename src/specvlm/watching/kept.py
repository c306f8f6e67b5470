"""What an answer leaves for the next one about the same video: frames that were seen, and tokens that were read.

      kept    system | video ............ | question 1, answer 1
question 2    system | video ............ | question 2                        only what is new is read
 follow-up    system | video ............ | question 1, answer 1 | question 2
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import final

import torch
from jaxtyping import Int
from torch import Tensor

from specvlm.answering import request
from specvlm.answering.options import Options
from specvlm.answering.pair import Pair
from specvlm.engine.caches.kv_cache import TreeCache
from specvlm.engine.sequence import Sequence
from specvlm.engine.snapshot import ModelSnapshot
from specvlm.families import Family
from specvlm.families.sights import Sights
from specvlm.prompts.album import nbytes
from specvlm.prompts.prompt import Prompt

ROOM = 256
"""Positions that a cache has to spare from the start: for a longer question, all of it would be copied."""


@final
@dataclass(frozen=True, eq=False)
class Held:
    """The tokens whose keys and values a cache holds first, and where they stand."""

    ids: Int[Tensor, " n"]
    positions: Int[Tensor, "R n"]

    def __len__(self) -> int:
        return len(self.ids)

    def first(self, n: int) -> Held:
        return Held(self.ids[:n], self.positions[:, :n])

    @classmethod
    def of(cls, prompt: Prompt, answer: Iterable[int]) -> Held:
        """A prompt and its answer. The answer stands alike in every row of positions."""
        tokens = torch.tensor(list(answer), dtype=torch.long)
        behind = prompt.next_position + torch.arange(len(tokens))
        positions = torch.cat([prompt.position_ids, behind.expand(len(prompt.position_ids), -1)], dim=1)
        return cls(torch.cat([prompt.input_ids, tokens]), positions)

    def shared(self, prompt: Prompt) -> int:
        """With how many of these tokens the prompt begins, each where it stands here."""
        n = min(len(self), prompt.num_tokens)
        same = (self.ids[:n] == prompt.input_ids[:n]) & (self.positions[:, :n] == prompt.position_ids[:, :n]).all(0)
        return int(same.cumprod(0).sum())


@final
@dataclass(eq=False)
class Kept:
    """A cache of the target, lent to one answer at a time, which appends to it in place.

    While it is lent, what stands in `held` doesn't change, and another answer may copy it.
    """

    cache: TreeCache
    held: Held
    lent: bool = False

    def lend(self, prompt: Prompt, sequence: Sequence) -> None:
        """Let an answer begin with what its prompt shares with what is held; the rest is forgotten."""
        self.held = self.held.first(self.held.shared(prompt))  # first, so that it is true wherever this is interrupted
        self.cache.truncate(len(self.held))
        self.held = self.held.first(self.cache.length)  # which may be less: some memories go back to few places
        self.cache.reserve(sequence.cache.capacity)
        sequence.cache = self.cache
        self.lent = True

    def has_read(self, prompt: Prompt, sequence: Sequence) -> None:
        """What the cache has is there for others."""
        self.held = Held.of(prompt, sequence.tokens).first(self.cache.length)

    def take_back(self, prompt: Prompt, sequence: Sequence) -> None:
        """The answer ended, or was given up at any point: keep it, but for its last token, which nobody has read.

        Takes no lock, for it may be called by the garbage collector: `held` changes in one step, and before `lent`.
        """
        self.cache.truncate(prompt.num_tokens + max(0, len(sequence.tokens) - 1))
        self.has_read(prompt, sequence)
        self.lent = False


@final
class Known:
    """A video as one pair of models knows it: pixels, what was seen of them, and what the target has read.

    Any number of answers may be in flight, in any threads. The first one writes to the cache that is kept; one that
    begins meanwhile copies what it can use, once its prompt has been read, and drops its copy in the end.
    """

    def __init__(self, prompt: Prompt, target: Family, damage: tuple[str, ...] = ()) -> None:
        """`prompt` is the first question's, and `damage` what its videos lack."""
        self.prompt, self.damage = prompt, damage
        self._sights = Sights()
        self._target = ModelSnapshot(target.model)
        self._kept: Kept | None = None
        self._lock = threading.Lock()

    def still_true(self) -> bool:
        """Would the target see and read the same today? Its owner may train it, or give it an adapter."""
        return self._target.still_true()

    @property
    def nbytes(self) -> int:
        """Bytes held, those of answers in flight left out."""
        kept, pixels = self._kept, nbytes(self.prompt.model_inputs)
        return pixels + self._sights.nbytes + (0 if kept is None else kept.cache.nbytes)

    def run(self, pair: Pair, prompt: Prompt, options: Options, sequence: Sequence) -> Iterator[tuple[int, ...]]:
        """`request.run`, from where the prompt leaves those before it."""
        if isinstance(pair.draft, Family):
            self._sights.forget_unless_still_true(pair.draft)
        rounds = request.run(pair, prompt, options, sequence, self._sights)
        mine, first = None, ()
        try:
            with self._lock:
                if self._kept is None:
                    sequence.cache.reserve(sequence.cache.capacity + ROOM)
                    self._kept = Kept(sequence.cache, Held(prompt.input_ids[:0], prompt.position_ids[:, :0]))
                kept = self._kept
                kept.cache.mark(prompt.split)  # where the next question may begin
                if kept.lent:
                    sequence.cache.extend(kept.cache, kept.held.shared(prompt))
                else:
                    kept.lend(prompt, sequence)
                    mine = kept
                    first = tuple(islice(rounds, 1))
                    mine.has_read(prompt, sequence)
            yield from first
            yield from rounds
        finally:
            if mine is not None:
                mine.take_back(prompt, sequence)
