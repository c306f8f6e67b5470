"""Measuring what whole rounds on the device cost here, once: they are played as answers play them, over a cache that
holds nothing anybody said."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, final, runtime_checkable

import torch

from specvlm.engine.caches.stacked_cache import StackedCache
from specvlm.engine.decoder import Decoder
from specvlm.engine.rounds.arena import CAPTURED_AT, Arena, Table
from specvlm.engine.rounds.report import Report
from specvlm.engine.stats import synchronize
from specvlm.engine.tree import DynamicTree
from specvlm.families import Family
from specvlm.planning import disk
from specvlm.planning.measuring import ENOUGH_SECONDS, LONG, MOST_SECONDS, MOST_TURNS, SHORT, TOO_RESTLESS, TURNS, facts
from specvlm.planning.rounds.costs import ENVELOPES, Line, RoundCosts, Timed

log = logging.getLogger(__name__)

FORMAT = 1
"""Of the files and of the way to measure: another number, and all is measured again."""

ROOM = 2 + max(each.max_nodes for each in ENVELOPES)
"""Places behind the cached ones that a round may write."""


@runtime_checkable  # so that the shape checks of the tests can look at what is annotated with it
class Ready(Protocol):
    """A pair made ready to play rounds on its device."""

    @property
    def arena(self) -> Arena: ...
    @property
    def compile(self) -> str:
        """What was done beforehand."""
        ...

    def target_cache(self, capacity: int) -> StackedCache: ...
    def draft_cache(self, capacity: int) -> StackedCache: ...


def round_costs(
    target: Family, draft: Family, ready: Ready, *, captured: bool = False, fresh: bool = False
) -> RoundCosts:
    """Those of a pair, from disk if they were measured before on such a machine; `fresh` measures again.

    `captured`: as they are once they were captured. Nothing about the models may be changed meanwhile.
    """
    under = {
        "rounds": FORMAT,
        "envelopes": [asdict(each) for each in ENVELOPES],
        "compile": ready.compile,
        "captured": captured,
        "target": facts(target),
        "draft": facts(draft),
    }
    known = None if fresh else disk.read(under, RoundCosts.known)
    if known is None:
        log.info("measuring what rounds of %s and %s cost here: once, and kept on disk", target.name, draft.name)
        known, unrest = measure(target.decoder, target.vocab_size, ready, captured=captured)
        if unrest < TOO_RESTLESS:
            disk.write(under, asdict(known))
        else:
            log.info("this machine was busy with something else: what was measured is rough, and isn't kept")
    return known


def measure(
    decoder: Decoder,
    vocab_size: int,
    ready: Ready,
    shapes: Sequence[DynamicTree] = ENVELOPES,
    lengths: tuple[int, int] = (SHORT, LONG),
    *,
    captured: bool = False,
) -> tuple[RoundCosts, float]:
    """Time rounds of each shape, and one of the target's `decoder` without guesses, behind a short and a long cache.

    Returns the costs, by the least time of each, since a disturbance only ever makes it longer; and how many times as
    long the middle one was, on the whole.
    """
    whole, ends, times = ready.arena.whole, list[tuple[int, int, int]](), list[dict[Any, list[float]]]()
    with torch.inference_mode(False), torch.no_grad():  # as a Player plays them
        for length in lengths:
            stand = _Stand.of(ready, decoder, vocab_size, length)
            target, draft = (each.capacity if whole else length for each in stand.caches)
            ends.append((length, target, draft))
            times.append(stand.time(shapes, captured))

    def line(what: Any, side: int) -> Line:
        short, long = ((end[side], min(seconds[what])) for end, seconds in zip(ends, times, strict=True))
        return Line.through(short, long)

    rounds = tuple(Timed(shape, line((shape, "grow"), 2), line((shape, "settle"), 1)) for shape in shapes)
    unrest = statistics.median(statistics.median(each) / min(each) for found in times for each in found.values())
    return RoundCosts(line("plain", 0), rounds, captured, whole), unrest


@final
@dataclass(frozen=True, eq=False)
class _Stand:
    """Two caches that are as full as is said, and the table over them, at which any round begins from there."""

    decoder: Decoder
    vocab_size: int
    length: int
    caches: tuple[StackedCache, StackedCache]
    table: Table
    whole: bool

    @classmethod
    def of(cls, ready: Ready, decoder: Decoder, vocab_size: int, length: int) -> _Stand:
        caches = ready.target_cache(length + ROOM), ready.draft_cache(length + ROOM)
        for cache in caches:
            dice = torch.Generator(cache.rows.device).manual_seed(0)  # the global one belongs to whoever samples
            cache.rows.normal_(generator=dice)
            cache.hold(length)
        return cls(decoder, vocab_size, length, caches, ready.arena.table(*caches, 1), ready.arena.whole)

    def time(self, shapes: Sequence[DynamicTree], captured: bool) -> dict[Any, list[float]]:
        """Seconds of the halves of rounds, and of plain ones. All come once in a turn: a disturbance doesn't hit one of
        them alone."""
        times: dict[Any, list[float]] = {}
        for shape in shapes:  # what is compiled, captured or only warmed up
            for _ in range(CAPTURED_AT):
                self._begin()
                self._bound(shape)
                if not captured or self.table.try_capture(shape) is None:
                    self._play(shape, captured=False)
        self._plain()
        begun = time.perf_counter()
        for turn in range(1, 1 + MOST_TURNS):
            for what, seconds in self._turn(shapes, captured):
                times.setdefault(what, []).append(seconds)
            passed = time.perf_counter() - begun
            if (turn >= TURNS and passed > ENOUGH_SECONDS) or passed > MOST_SECONDS:
                break
        return times

    def _turn(self, shapes: Sequence[DynamicTree], captured: bool) -> Iterator[tuple[Any, float]]:
        self._wait()
        start = time.perf_counter()
        self._plain()
        yield "plain", time.perf_counter() - start
        for shape in shapes:
            self._begin()
            self._bound(shape)
            grow, settle = self._play(shape, captured)
            yield (shape, "grow"), grow
            yield (shape, "settle"), settle

    def _begin(self) -> None:
        """All stands at position 0: that costs the same, and some models keep frequencies for the furthest that they
        have seen."""
        there = [self.length]
        self.table.state.write(target_length=there, draft_length=there, waiting=[0, 0], num_waiting=[1], eos_ids=[])
        self.table.state.write(target_offset=[-self.length], draft_offset=[-self.length])

    def _bound(self, shape: DynamicTree) -> None:
        """No forward looks further than it may write, unless it looks at all."""
        played = self.table.round(shape, self.vocab_size)
        sides = zip(self.caches, (played.target, played.draft), (played.target_rows, played.draft_rows), strict=True)
        for cache, side, rows in sides:
            side.cache.bound = cache.capacity if self.whole else self.length + rows

    def _play(self, shape: DynamicTree, captured: bool) -> tuple[float, float]:
        """A round from `_begin` on, the host's reading included."""
        played = (self.table.captured(shape) if captured else None) or self.table.round(shape, self.vocab_size)
        envelope = self.table.round(shape, self.vocab_size).selection.envelope
        self._wait()
        start = time.perf_counter()
        tree = played.grow()
        self._wait()
        middle = time.perf_counter()
        Report.read(played.settle(tree).tolist(), envelope)
        return middle - start, time.perf_counter() - middle

    def _wait(self) -> None:
        synchronize((self.table.state.waiting.device,))

    def _plain(self) -> None:
        """A round of the host's without guesses, undone; its choice is read."""
        cache = self.caches[0]
        logits = self.decoder.step(torch.tensor([0]), torch.tensor([[0]]), None, cache)
        logits.float().argmax(-1).tolist()
        cache.truncate(self.length)
