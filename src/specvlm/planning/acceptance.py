"""Acceptance: what a guess is worth, learnt from what became of those before it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field

from specvlm.planning.average import Average

CONFIDENCES = (0.003, 0.01, 0.03, 0.1, 0.3, 0.5, 0.7, 0.85, 0.95, 0.99)
"""Where one class of the draft's confidence ends and the next begins."""

PRIOR = 4.0
"""For how many observations a first belief counts."""

MEMORY = 0.99
"""What a tree still counts for after the next one, even where that one has nothing to tell: bad luck is forgotten, and
what it ruled out is tried again."""

FIRST_BELIEF = 0.8
"""How often a branch that was right so far is right once more, before there is any experience."""

FIRST_DEPTH = 2
"""How deep the first guesses are. Later ones may be twice as deep as any whose parents were right."""


@dataclass
class Acceptance:
    """Running estimates of one pair of models.

    A draft's confidence in a guess says how likely it is to be right, but not as a probability: whose drafts are too
    sure, or of another opinion, are corrected class by class of confidence. By depth it is known how often a branch
    that was right so far is right once more.
    """

    by_confidence: list[Average] = field(default_factory=lambda: [Average(MEMORY) for _ in range(len(CONFIDENCES) + 1)])
    by_depth: list[Average] = field(default_factory=list)

    @property
    def max_depth(self) -> int:
        """How deep to guess at most: a draft that nobody knows is trusted step by step."""
        return max(FIRST_DEPTH, 2 * len(self.by_depth))

    def of_guesses(self, confidences: Iterable[float]) -> list[float]:
        """The chance of each guess to be right if its parent is. Its confidence is the draft's probability of it."""
        known = self.by_confidence
        # `Average.value` written out: a plan asks for a hundred of them in a round.
        return [
            (of_class.total + PRIOR * each) / (of_class.weight + PRIOR)
            for each in confidences
            for of_class in (known[bisect_right(CONFIDENCES, each)],)
        ]

    def at_depths(self, num_depths: int) -> list[float]:
        """The chance that a branch goes on to a depth of 1, 2, ... if it has come to the one before.

        What is known of shallower depths is believed of deeper ones, where there is less experience.
        """
        chances, belief = list[float](), FIRST_BELIEF
        for average in self.by_depth[:num_depths]:
            belief = average.value(belief, PRIOR)
            chances.append(belief)
        return chances + [belief] * (num_depths - len(chances))

    def learn(self, guesses: Iterable[tuple[float, bool]], reached: int, offered: int) -> None:
        """From one tree: confidence in each guess whose parent was right, and whether it was; how deep the target
        followed; and how deep it could have followed, had one more guess been right."""
        for average in self.by_confidence:
            average.add(0, 0)
        for confidence, right in guesses:
            average = self.by_confidence[bisect_right(CONFIDENCES, confidence)]
            average.total += right
            average.weight += 1
        self.by_depth += [Average(MEMORY) for _ in range(offered - len(self.by_depth))]
        for depth, average in enumerate(self.by_depth, start=1):
            average.add(depth <= reached, depth <= offered)
