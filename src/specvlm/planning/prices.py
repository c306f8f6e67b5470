"""Prices: what time costs in one round, in tokens."""

from __future__ import annotations

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
    """What the decisions of one round hang on. Times are counted in plain forwards of the target."""

    speedup: float
    """Tokens that are to be had elsewhere in the time of a plain forward: what time is worth."""
    guess: tuple[float, ...]
    """Forwards that a draft forward takes, by its rows less one."""
    verify: tuple[float, ...]
    """Forwards that it takes to verify a tree, by the number of its guesses: of none, 1."""
    chances: tuple[float, ...]
    """Of a branch to go on to a depth of 1, 2, ... if it has come to the one before. No tree is deeper."""

    @classmethod
    def now(cls, costs: PairCosts, experience: Experience, target_cached: int, draft_cached: int) -> Prices:
        verify = costs.target.forwards(1 + MAX_NODES, target_cached)
        guess = costs.draft.forwards(MAX_WIDTH, draft_cached)
        plain = verify[0]
        depth = min(MAX_DEPTH, experience.acceptance.max_depth)
        return cls(
            speedup=max(1.0, experience.speedup.value(1.0)),
            guess=tuple(each / plain for each in guess),
            verify=tuple(each / plain for each in verify),
            chances=tuple(experience.acceptance.at_depths(depth)),
        )

    def worth_beginning(self, levels_left: int) -> float:
        """Tokens to be won by drafting at all."""
        return self.worth(1.0, 0, 1, 0, levels_left)

    def worth(self, value: float, depth: int, rows: int, num_nodes: int, levels_left: int) -> float:
        """Tokens to be won by drafting on: by as many forwards as are best, less what their time is worth.

        `value` is the chance that the answer comes by the nodes to be fed, which are `depth` deep and whose first
        forward has so many `rows`; there are `num_nodes` guesses already that are worth verifying.
        """
        best = tokens = 0.0
        chance, forwards = value, self.guess[rows - 1]
        for level, again in enumerate(self.chances[depth : depth + min(levels_left, HORIZON)], start=1):
            chance *= again
            tokens += chance
            dearer = self.verify[min(num_nodes + level, MAX_NODES)] - self.verify[num_nodes]
            best = max(best, tokens - self.speedup * (forwards + dearer))
            forwards += self.guess[0]
        return best
