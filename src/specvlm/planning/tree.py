"""PlannedTree: a draft tree that grows as long as it pays.

All decisions weigh tokens against time at the rate that decoding reaches anyway: what is worth less than the tokens
that would have been emitted in the same time is left alone. (The rate that is reached by deciding so is the best one:
Dinkelbach, doi:10.1287/mnsc.13.7.492.)

    another draft forward?   what its guesses will be worth  >  rate * (draft forward + more rows to verify)
    one more node?           the chance that it is right     >  rate * (one more row to verify)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, islice
from operator import sub
from typing import final

from jaxtyping import Float
from torch import Tensor

from specvlm.engine.tree import DraftTree, Growth, TreeShape, most_confident
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
        self._fed, self._num_rows = [0], list[int]()
        self._ranked = list[int]()
        """The MAX_NODES likeliest guesses, the best first. No other, nor any guess behind it, will be verified."""
        self._leaves = set[int]()
        """Those that were not fed."""
        self._num_worthy = 0

    def extend(self, logits: Float[Tensor, "frontier vocab"]) -> list[int]:
        self._levels_left -= 1
        self._num_rows.append(len(self._fed))
        first = len(self.tokens)
        confidences, guesses = most_confident(logits, min(CHILDREN, logits.shape[-1]))
        chances, depths, values = self._experience.acceptance.of_guesses, self._depths, self._values
        for parent, row, of_row in zip(self._fed, guesses, confidences, strict=True):
            self.tokens += row
            self.parents += [parent] * len(row)
            depths += [depths[parent] + 1] * len(row)
            self._confidences += of_row
            value = values[parent]
            values += [value * chance for chance in chances(of_row)]
        self._rank(range(first, len(self.tokens)))
        self._num_worthy = self._worthy()
        self._fed = self._next() if self._levels_left else []
        return list(self._fed)

    def _rank(self, new: range) -> None:
        """The likeliest first; among equals the older, so that a parent always comes before its child. (Sorting keeps
        the order of equals, and takes little time where most are in order.)"""
        self._leaves.update(new)
        self._ranked = sorted([*self._ranked, *new], key=self._values.__getitem__, reverse=True)[:MAX_NODES]

    def _next(self) -> list[int]:
        """The leaves to feed, or none if no forward pays any more."""
        prices, values, depths = self._prices, self._values, self._depths
        leaves = list(islice(filter(self._leaves.__contains__, self._ranked), MAX_WIDTH))
        if not leaves:
            return []
        gains = accumulate([values[leaf] * prices.chances[depths[leaf]] for leaf in leaves])
        net = list(map(sub, gains, prices.guess))
        rows = 1 + net.index(max(net))
        chosen = leaves[:rows]
        value = sum(map(values.__getitem__, chosen))
        if prices.worth(value, depths[chosen[0]], rows, self._num_worthy, self._levels_left) <= 0:
            return []
        self._leaves.difference_update(chosen)
        return sorted(chosen)

    def _worthy(self) -> int:
        """How many guesses are worth verifying: the likeliest, which form a tree, since none is likelier than its
        parent. One at least, or nothing would be learnt."""
        values = accumulate(map(self._values.__getitem__, self._ranked))
        gains = list(map(sub, values, islice(self._prices.verify, 1, None)))
        return 1 + gains.index(max(gains))

    def finish(self) -> tuple[DraftTree, list[int]]:
        chosen = [0, *sorted(self._ranked[: self._num_worthy])]
        number = {node: new for new, node in enumerate(chosen)}
        number[-1] = -1
        tokens, parents = self.tokens, self.parents
        of_tree = DraftTree(tuple([tokens[node] for node in chosen]), tuple([number[parents[node]] for node in chosen]))
        return of_tree, chosen

    def judged(self, nodes: Sequence[int], path: Sequence[int]) -> None:
        right = set(path)
        offered = [node for node in nodes if node and self.parents[node] in right]
        deepest = max((self._depths[node] for node in offered), default=0)
        guesses = [(self._confidences[node], node in right) for node in offered]
        self._experience.acceptance.learn(guesses, len(path) - 1, deepest)
        self._experience.settle(len(path), self._prices.forwards(self._num_rows, len(nodes) - 1))


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
        price = prices.forwards([1], 1) - 1
        if not purse.allows(price):
            self._experience.settle(1, 1.0)
            return None
        affordable = max(1, int(purse.left / price)) if prices.worth_beginning(levels) > 0 else 1
        return PlannedGrowth(root, prices, self._experience, min(levels, affordable))
