"""Acceptance: what a guess is worth, learnt from what became of those before it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field

from specvlm.planning.average import Average

CONFIDENCES = (0.1, 0.3, 0.5, 0.7, 0.85, 0.95, 0.99)
"""Where one class of the draft's confidence ends and the next begins."""

PRIOR = 4.0
"""For how many observations a first belief counts."""

MEMORY = 0.995
"""What an observation still counts for after the next one of its kind: it is forgotten by half after 140."""

FIRST_BELIEF = 0.8
"""How many guesses in a row go on being right, before there is any experience."""


@dataclass
class Acceptance:
    """Running estimates of one pair of models.

    A draft's confidence in a guess says how likely it is to be right, but not as a probability: whose drafts are too
    sure, or of another opinion, are corrected class by class of confidence. By depth it is known how often a branch
    that was right so far is right once more.
    """

    by_confidence: list[Average] = field(default_factory=lambda: [Average(MEMORY) for _ in range(len(CONFIDENCES) + 1)])
    by_depth: list[Average] = field(default_factory=list)

    def of_guess(self, confidence: float) -> float:
        """The chance that a guess is right whose parent is. `confidence` is the draft's probability of it."""
        return self.by_confidence[bisect_right(CONFIDENCES, confidence)].value(confidence, PRIOR)

    def at_depth(self, depth: int) -> float:
        """The chance that a branch goes on to a `depth` of 1 or more if it has come to the one before.

        What is known of shallower depths is believed of deeper ones, where there is less experience.
        """
        belief = FIRST_BELIEF
        for frequency in self.by_depth[:depth]:
            belief = frequency.value(belief, PRIOR)
        return belief

    def learn(self, guesses: Iterable[tuple[float, bool]], reached: int, offered: int) -> None:
        """From one tree: confidence in each guess whose parent was right, and whether it was; how deep the target
        followed; and how deep it could have followed, had one more guess been right."""
        for confidence, right in guesses:
            self.by_confidence[bisect_right(CONFIDENCES, confidence)].add(right)
        self.by_depth += [Average(MEMORY) for _ in range(offered - len(self.by_depth))]
        for depth in range(1, offered + 1):
            self.by_depth[depth - 1].add(depth <= reached)
