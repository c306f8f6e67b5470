"""Ratios: how many video tokens the draft should see, found by trying what could be better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from specvlm.planning.average import Average

RATIOS = (0.0, 0.5, 0.75, 0.9, 0.95)
FIRST = 0.9
"""The paper's (arXiv:2508.16201)."""

HOPE = 1.1
"""By how much more tokens a round might have at a lower ratio than at any that was tried."""

RECENT = 0.8
"""What an answer still counts for after the next one at the same ratio."""


@dataclass
class Rounds:
    """What a round is like at one ratio."""

    tokens: Average = field(default_factory=lambda: Average(RECENT))
    draft_forwards: Average = field(default_factory=lambda: Average(RECENT))
    guesses: Average = field(default_factory=lambda: Average(RECENT))


@dataclass
class Ratios:
    """What rounds were like at each ratio that was tried."""

    tried: dict[float, Rounds] = field(default_factory=dict)

    def best(self, seconds_per_token: Callable[[float, Rounds, float], float]) -> float:
        """The ratio of the least `seconds_per_token(ratio, rounds like those, so many times their tokens)`.

        A ratio that wasn't tried is believed to do as well as the nearest one that was: a little better if the draft
        would see more than ever. So it is tried if that much would make it the best, and judged by its own record then.
        """
        if not self.tried:
            return FIRST

        def seconds(ratio: float) -> float:
            if ratio in self.tried:
                return seconds_per_token(ratio, self.tried[ratio], 1.0)
            nearest = self.tried[min(self.tried, key=lambda tried: abs(tried - ratio))]
            return seconds_per_token(ratio, nearest, HOPE if ratio < min(self.tried) else 1.0)

        return min(RATIOS, key=seconds)

    def learn(self, ratio: float, tokens: int, rounds: int, draft_forwards: int, guesses: int) -> None:
        """From one answer: tokens behind the first, target forwards, the draft's, guesses in all trees."""
        if rounds:
            like = self.tried.setdefault(ratio, Rounds())
            like.tokens.add(tokens, rounds)
            like.draft_forwards.add(draft_forwards, rounds)
            like.guesses.add(guesses, rounds)
