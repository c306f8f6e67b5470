"""Average: of what was seen lately."""

from __future__ import annotations

from dataclasses import dataclass

Number = float | int  # beartype: an int is no float


@dataclass
class Average:
    """A mean in which each observation counts `memory` times as much as the one after it."""

    memory: float
    total: float = 0.0
    weight: float = 0.0

    def add(self, total: Number, weight: Number = 1.0) -> None:
        """Observe `weight` things that make `total` together: tokens and rounds, hits and trials. With a weight of 0
        time passes, and nothing was seen."""
        self.total, self.weight = self.memory * self.total + total, self.memory * self.weight + weight

    def value(self, belief: float, strength: float = 0.0) -> float:
        """The mean, where the `belief` counts for `strength` observations; without any, the belief."""
        weight = self.weight + strength
        return (self.total + strength * belief) / weight if weight else belief
