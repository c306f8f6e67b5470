"""Choosing the envelope of the next round: by what its rounds have emitted, and by what they cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import accumulate
from operator import mul
from typing import final

from specvlm.engine.rounds.report import Report, RoundPlan
from specvlm.engine.tree import DynamicTree
from specvlm.planning.acceptance import Acceptance
from specvlm.planning.average import Average, Number
from specvlm.planning.experience import Experience
from specvlm.planning.purse import Purse

HOPE, PRIOR = 1.1, 4.0
"""How much better than by its depth an envelope is believed to be before it was tried, and for how many rounds that
counts: so that each is tried that may be the best."""

WIDER = 0.3
"""How often a wider tree is believed to be right where a narrower one is wrong, before one was tried."""

MEMORY = 0.98
"""What a round still counts for after the next one, of whatever envelope: what was given up is tried again."""


@final
@dataclass
class Record:
    """How many tokens the rounds of each envelope emitted; and how deep they came, by the width of their trees."""

    emitted: dict[DynamicTree, Average] = field(default_factory=dict)
    by_width: dict[int, Acceptance] = field(default_factory=dict)

    def tokens(self, shape: DynamicTree) -> float:
        """What its next round is believed to emit."""
        hoped = min(1.0 + shape.depth, HOPE * tokens_by_depth(self.chances(shape.width, shape.depth)))
        known = self.emitted.get(shape)
        return hoped if known is None else known.value(hoped, PRIOR)

    def chances(self, width: int, num_depths: int) -> list[float]:
        """Of a branch to go on to each depth: as in trees of this width, or else of the next one that was tried."""
        if not self.by_width:
            return Acceptance().at_depths(num_depths)
        nearest = min(self.by_width, key=lambda other: (abs(other - width), other))
        chances = self.by_width[nearest].at_depths(num_depths)
        return [each + WIDER * (1 - each) for each in chances] if nearest < width else chances

    def learn(self, shape: DynamicTree, num_tokens: int, offered: int) -> None:
        """From a round that emitted so many, and could have gone as deep as was `offered`, had one more guess been
        right. Time passes for all others."""
        self.emitted.setdefault(shape, Average(MEMORY))
        for other, average in list(self.emitted.items()):  # answers in flight may add to it
            seen = float(other == shape)
            average.add(seen * num_tokens, seen)
        self.by_width.setdefault(shape.width, Acceptance())
        for width, acceptance in list(self.by_width.items()):
            seen = width == shape.width
            acceptance.learn((), seen * (num_tokens - 1), seen * offered)


def tokens_by_depth(chances: Iterable[Number]) -> float:
    """Of a round: the target's own token, and one for each depth that is come to."""
    return 1.0 + sum(accumulate(chances, mul))


@dataclass(frozen=True)
class Prospect:
    """A round of one envelope, before it is played."""

    shape: DynamicTree
    tokens: Number
    forwards: Number
    """How long it takes, in plain rounds."""

    @property
    def speedup(self) -> float:
        return self.tokens / self.forwards

    @property
    def price(self) -> float:
        """Plain rounds that are lost if all guesses are wrong."""
        return self.forwards - 1

    @property
    def may_pay(self) -> bool:
        """Whether anything is won even if all guesses are right."""
        return self.price < self.shape.depth


def best(prospects: Iterable[Prospect], purse: Purse) -> Prospect | None:
    """The fastest of those that can be afforded, if it is faster than a plain round.

    Where none is, the cheapest is tried now and then, as the purse allows: things may have changed. Otherwise None.
    """
    hopeful = [each for each in prospects if each.may_pay]
    if not hopeful:
        return None
    affordable = (each for each in hopeful if each.price <= max(0.0, purse.left))
    fastest = max(affordable, key=lambda each: each.speedup, default=None)
    if fastest is not None and fastest.speedup > 1:
        return fastest
    cheapest = min(hopeful, key=lambda each: each.price)
    return cheapest if purse.allows(cheapest.price) else None


@final
@dataclass(frozen=True, eq=False)
class EnvelopePlan(RoundPlan):
    """Of one answer: one of a few envelopes for each round, or none where guesses don't pay.

    A stranger is trusted step by step: no envelope is deeper than `Acceptance.max_depth`.
    """

    shapes: tuple[DynamicTree, ...]
    forwards: Callable[[DynamicTree], float]
    """How long the next round takes, in plain ones, if it is of this shape."""
    reading: Callable[[int], float]
    """How long the draft takes to read so many tokens beforehand, in plain rounds."""
    experience: Experience
    record: Record
    max_depth: int = 1 << 30
    _chosen: list[Prospect] = field(default_factory=list)
    """The last one, once there is any."""

    @property
    def max_nodes(self) -> int:
        return max(each.max_nodes for each in self.shapes)

    def cut(self, max_depth: int) -> EnvelopePlan:
        return replace(self, max_depth=min(self.max_depth, max_depth))

    def prospects(self, max_depth: int, num_unread: int = 0) -> list[Prospect]:
        """Whole envelopes alone: what is cut is captured by nobody."""
        before, deepest = self.reading(num_unread) if num_unread > 1 else 0.0, min(max_depth, self.max_depth)
        return [
            Prospect(shape, self.record.tokens(shape), before + self.forwards(shape))
            for shape in self.shapes
            if shape.depth <= deepest
        ]

    def choose(self, max_depth: int, num_unread: int) -> DynamicTree | None:
        trusted = min(max_depth, self.experience.acceptance.max_depth)
        chosen = best(self.prospects(trusted, num_unread), self.experience.purse)
        if chosen is None:
            self.experience.settle(1, 1.0)
            return None
        self._chosen[:] = [chosen]
        return chosen.shape

    def learn(self, report: Report) -> None:
        (chosen,) = self._chosen
        depths, parents = report.tree.depths, report.tree.parents
        offered = max(depth for depth, parent in zip(depths, parents, strict=True) if parent in report.path)
        self.experience.acceptance.learn((), len(report.path) - 1, offered)
        self.record.learn(chosen.shape, len(report.tokens), offered)
        self.experience.settle(len(report.tokens), chosen.forwards)
