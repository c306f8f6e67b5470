"""Prices: what time costs in one round, in tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from specvlm.planning.costs import PairCosts
from specvlm.planning.experience import Experience

MAX_NODES = 48
"""Guesses in a tree; the target's cache has room for them."""

MAX_DEPTH = 24
MAX_WIDTH = 6
"""Branches that one draft forward goes on with."""

HORIZON = 6
"""Draft forwards that one thinks ahead: the first alone may not pay where several do."""


@dataclass(frozen=True)
class Prices:
    """What the decisions of one round hang on. Time is counted in tokens: those that are to be had meanwhile."""

    speedup: float
    """Tokens to be had in the time of a plain forward of the target: what time is worth."""
    guess: list[float]
    """What a draft forward costs, by its rows less one."""
    verify: list[float]
    """What it costs to verify a tree, by the number of its guesses. Beyond MAX_NODES there are none, nor costs."""
    chances: list[float]
    """Of a branch to go on to a depth of 1, 2, ... if it has come to the one before. No tree is deeper."""

    @classmethod
    def now(cls, costs: PairCosts, experience: Experience, target_cached: int, draft_cached: int) -> Prices:
        verify = costs.target.forwards(1 + MAX_NODES, target_cached)
        guess = costs.draft.forwards(MAX_WIDTH, draft_cached)
        speedup = max(1.0, experience.speedup.value(1.0))
        of_second = speedup / verify[0]
        depth = min(MAX_DEPTH, experience.acceptance.max_depth)
        chances = experience.acceptance.at_depths(depth)
        of_trees = (of_second * verify).tolist()
        return cls(speedup, (of_second * guess).tolist(), of_trees + of_trees[-1:] * HORIZON, chances)

    def forwards(self, num_rows: Sequence[int], num_guesses: int) -> float:
        """Plain forwards in the time of draft forwards of so many rows each, and of verifying what came of them."""
        return (sum(self.guess[rows - 1] for rows in num_rows) + self.verify[num_guesses]) / self.speedup

    def worth_beginning(self, levels_left: int) -> float:
        """Tokens to be won by drafting at all."""
        return self.worth(1.0, 0, 1, 0, levels_left)

    def worth(self, value: float, depth: int, rows: int, num_nodes: int, levels_left: int) -> float:
        """Tokens to be won by drafting on: by as many forwards as are best, less what their time is worth.

        `value` is the chance that the answer comes by the nodes to be fed, which are `depth` deep and whose first
        forward has so many `rows`; there are `num_nodes` guesses already that are worth verifying.
        """
        chances = self.chances[depth : depth + min(levels_left, HORIZON)]
        of_trees = self.verify[num_nodes + 1 : num_nodes + 1 + HORIZON]
        best = tokens = 0.0
        chance, spent = value, self.guess[rows - 1] - self.verify[num_nodes]
        for again, of_tree in zip(chances, of_trees, strict=False):
            chance *= again
            tokens += chance
            won = tokens - spent - of_tree
            if won > best:
                best = won
            spent += self.guess[0]
        return best
