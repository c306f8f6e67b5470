"""PlannedTree: a draft tree that grows as long as it pays.

All decisions weigh tokens against time at the rate that decoding reaches anyway: what is worth less than the tokens
that would have been emitted in the same time is left alone. (The rate that is reached by deciding so is the best one:
Dinkelbach, doi:10.1287/mnsc.13.7.492.)

    another draft forward?   what its guesses will be worth  >  rate * (draft forward + more rows to verify)
    one more node?           the chance that it is right     >  rate * (one more row to verify)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import final

from jaxtyping import Float
from torch import Tensor

from specvlm.engine.tree import DraftTree, Growth, TreeShape, likeliest
from specvlm.planning.experience import Experience
from specvlm.planning.prices import MAX_DEPTH, MAX_NODES, MAX_WIDTH, Prices

CHILDREN = 4
"""Guesses that are looked at behind each node."""


@final
class PlannedGrowth(Growth):
    """The tree of one round. The next nodes to be fed are the likeliest leaves, however deep they are."""

    def __init__(self, root: int, prices: Prices, experience: Experience, levels: int) -> None:
        """It takes no more draft forwards than there are `levels`."""
        self.tokens, self.parents = [root], [-1]
        self._prices, self._experience, self._levels_left = prices, experience, levels
        self._values, self._depths, self._confidences = [1.0], [0], [1.0]
        self._fed, self._forwards = [0], 0.0
        self._leaves, self._ranked = list[int](), list[int]()
        """Guesses that were not fed, and the MAX_NODES likeliest of all: the best first."""

    def extend(self, logits: Float[Tensor, "frontier vocab"]) -> list[int]:
        self._levels_left -= 1
        self._forwards += self._prices.guess[len(self._fed) - 1]
        log_probs, guesses = likeliest(logits, min(CHILDREN, logits.shape[-1]))
        first, chance_of = len(self.tokens), self._experience.acceptance.of_guess
        for parent, confidences, row in zip(self._fed, log_probs.exp().tolist(), guesses.tolist(), strict=True):
            self.tokens += row
            self.parents += [parent] * len(row)
            self._depths += [self._depths[parent] + 1] * len(row)
            self._confidences += confidences
            value = self._values[parent]
            self._values += [value * chance_of(confidence) for confidence in confidences]
        new = range(first, len(self.tokens))
        self._leaves, self._ranked = self._best(self._leaves, new), self._best(self._ranked, new)[:MAX_NODES]
        self._fed = self._next() if self._levels_left else []
        return list(self._fed)

    def _best(self, ranked: list[int], new: range) -> list[int]:
        """Both together, the likeliest first; among equals the older, so that a parent always comes before its child.
        (Sorting keeps the order of equals, and takes little time where most are in order.)"""
        return sorted([*ranked, *new], key=self._values.__getitem__, reverse=True)

    def _next(self) -> list[int]:
        """The leaves to feed, or none if no forward pays any more."""
        prices, leaves = self._prices, self._leaves[:MAX_WIDTH]
        gains = accumulate(self._values[leaf] * prices.chances[self._depths[leaf]] for leaf in leaves)
        net = [gain - prices.speedup * prices.guess[more] for more, gain in enumerate(gains)]
        rows = 1 + net.index(max(net))
        chosen = leaves[:rows]
        value = sum(self._values[leaf] for leaf in chosen)
        if prices.worth(value, self._depths[chosen[0]], rows, len(self._worthy()), self._levels_left) <= 0:
            return []
        self._leaves = self._leaves[rows:]
        return sorted(chosen)

    def _worthy(self) -> list[int]:
        """The guesses that are worth verifying, one at least, or nothing would be learnt. The likeliest ones form a
        tree: none is likelier than its parent."""
        nodes, prices = self._ranked, self._prices
        values = accumulate(map(self._values.__getitem__, nodes))
        gains = [value - prices.speedup * prices.verify[count] for count, value in enumerate(values, start=1)]
        return nodes[: 1 + gains.index(max(gains))]

    def finish(self) -> tuple[DraftTree, list[int]]:
        chosen = [0, *sorted(self._worthy())]
        number = {node: new for new, node in enumerate(chosen)}
        number[-1] = -1
        tokens = tuple(self.tokens[node] for node in chosen)
        return DraftTree(tokens, tuple(number[self.parents[node]] for node in chosen)), chosen

    def judged(self, nodes: Sequence[int], path: Sequence[int]) -> None:
        right = set(path)
        offered = [node for node in nodes if node and self.parents[node] in right]
        deepest = max((self._depths[node] for node in offered), default=0)
        guesses = [(self._confidences[node], node in right) for node in offered]
        self._experience.acceptance.learn(guesses, len(path) - 1, deepest)
        self._experience.settle(len(path), self._forwards + self._prices.verify[len(nodes) - 1])


@final
class PlannedTree(TreeShape):
    """The shape of one answer's trees, each as large as pays in its round.

    Where no guess pays, none is made, but for one now and then: things may have changed.
    """

    def __init__(self, prices: Callable[[], Prices], experience: Experience, max_depth: int = MAX_DEPTH) -> None:
        """`prices` tells those of the next round."""
        self._prices, self._experience, self._max_depth = prices, experience, max_depth

    @property
    def max_nodes(self) -> int:
        return 1 + MAX_NODES

    def cut(self, max_depth: int) -> TreeShape:
        return PlannedTree(self._prices, self._experience, min(self._max_depth, max_depth))

    def sprout(self, root: int, max_depth: int) -> Growth | None:
        if not min(max_depth, self._max_depth):
            return None
        prices, purse = self._prices(), self._experience.purse
        levels = min(max_depth, self._max_depth, len(prices.chances))
        price = prices.guess[0] + prices.verify[1] - 1
        if not purse.allows(price):
            self._experience.settle(1, 1.0)
            return None
        affordable = max(1, int(purse.left / price)) if prices.worth_beginning(levels) > 0 else 1
        return PlannedGrowth(root, prices, self._experience, min(levels, affordable))
