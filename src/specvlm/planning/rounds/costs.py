"""RoundCosts: how long whole rounds on the device take, by their envelope and by what their forwards look at."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from specvlm.engine.stats import Round
from specvlm.engine.tree import DynamicTree
from specvlm.planning.average import Number

ENVELOPES = (
    DynamicTree(2, 2, 4),
    DynamicTree(4, 2, 8),
    DynamicTree(6, 2, 12),
    DynamicTree(6, 4, 25),
    DynamicTree(10, 4, 40),
)
"""From the least to the most that a round may cost. A GPU asks as much for a draft forward of four rows as for one of
two, and hardly more for a target's forward of a few dozen: so few levels pay, and wide ones."""

LEAST = 1e-9
"""Seconds of anything."""


@dataclass(frozen=True)
class Line:
    """Seconds that grow with the places that are looked at. Errors: ValueError for none, or fewer behind more."""

    base: Number
    per_place: Number

    def __post_init__(self) -> None:
        if not (0 < self.base < math.inf and 0 <= self.per_place < math.inf):
            raise ValueError(f"nothing takes {self}")

    @classmethod
    def through(cls, short: tuple[int, Number], long: tuple[int, Number]) -> Line:
        """From seconds measured at two numbers of places, the fewer first."""
        per_place = max(0.0, (long[1] - short[1]) / (long[0] - short[0]))
        return cls(max(LEAST, short[1] - short[0] * per_place), per_place)

    def at(self, places: int) -> float:
        return float(self.base + places * self.per_place)


@dataclass(frozen=True)
class Timed:
    """The halves of a round: `grow` hangs on the draft's cache; `settle`, with the host's reading, on the target's."""

    shape: DynamicTree
    grow: Line
    settle: Line

    @classmethod
    def known(cls, timed: Any) -> Timed:
        return cls(DynamicTree(**timed["shape"]), Line(**timed["grow"]), Line(**timed["settle"]))

    def seconds(self, target_places: int, draft_places: int) -> float:
        return self.grow.at(draft_places) + self.settle.at(target_places)


@dataclass(frozen=True)
class RoundCosts:
    """Of one pair of models, as their rounds are played. Errors: ValueError where none was timed."""

    plain: Line
    """A round without guesses: one of the host's, whose forward looks at the tokens that are cached."""
    rounds: tuple[Timed, ...]
    captured: bool = False
    """Whether they were replayed from graphs."""
    whole: bool = False
    """Whether forwards look at a cache's whole capacity, however little is in use."""

    def __post_init__(self) -> None:
        if not self.rounds:
            raise ValueError("a plan for rounds needs one that was timed, at least")

    @classmethod
    def known(cls, costs: Any) -> RoundCosts:
        """From what `asdict` makes of it. Errors: ValueError, KeyError or TypeError for anything else."""
        rounds = tuple(Timed.known(each) for each in costs["rounds"])
        return cls(Line(**costs["plain"]), rounds, costs["captured"], costs["whole"])

    def of(self, played: Round) -> Timed | None:
        """What was timed for such a round; None: it had no guesses."""
        if not played.num_drafted:
            return None
        # A small vocabulary may leave a tree smaller than its envelope.
        alike = [each for each in self.rounds if each.shape.depth == played.num_draft_forwards]
        return next(each for each in alike if each.shape.num_nodes >= played.num_drafted)
