"""Ratios: how many video tokens the draft should see, found by trying what could be better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from specvlm.planning.average import Average

RATIOS = (0.0, 0.5, 0.75, 0.9, 0.95)
FIRST = 0.9
"""The paper's (arXiv:2508.16201)."""

HOPE = 0.95
"""What a token might take if the draft sees more than it did at the next ratio that was tried, which took 1."""

PRIOR = 128.0
"""For how many tokens a belief counts."""

MEMORY = 0.98
"""What an answer still counts for after the next one, at whatever ratio: one bad answer condemns none for good."""


@dataclass
class Ratios:
    """How long a token took at each ratio, in plain forwards of the target, without reading the draft's prompt."""

    tried: dict[float, Average] = field(default_factory=lambda: {ratio: Average(MEMORY) for ratio in RATIOS})

    def best(self, reading: Callable[[float], float]) -> float:
        """The ratio at which a token should take least, with `reading(ratio)` forwards for its share of the prompt."""
        times = self.believed()
        return min(times, key=lambda ratio: times[ratio] + reading(ratio))

    def believed(self) -> dict[float, float]:
        """How long a token takes, at the first ratio to try, or at each of them once one was tried.

        What wasn't tried lately is believed to be like the next ratio above, or a little better, as its draft sees
        more: so that it is tried where that would make it the best, and judged by its own record then.
        """
        known = [average for average in self.tried.values() if average.weight]
        if not known:
            return {FIRST: 1.0}
        belief, times = known[-1].value(1.0), {}
        for ratio in reversed(RATIOS):
            times[ratio] = self.tried[ratio].value(belief, PRIOR)
            belief = HOPE * times[ratio]
        return times

    def learn(self, ratio: float, num_tokens: int, forwards: float) -> None:
        """From one answer: so many tokens in the time of so many plain forwards. Nothing is learnt of other ratios than
        RATIOS."""
        if ratio in self.tried:
            for other, average in self.tried.items():
                seen = other == ratio
                average.add(seen * forwards, seen * num_tokens)
