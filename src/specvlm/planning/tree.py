"""PlannedTree: a draft tree that grows as long as it pays.

All decisions weigh tokens against seconds at the rate that decoding reaches anyway: what is worth less than the tokens
that would have been emitted in the same time is left alone. (The rate that is reached by deciding so is the best one:
Dinkelbach, doi:10.1287/mnsc.13.7.492.)

    another draft forward?   what its guesses will be worth  >  rate * (draft forward + more rows to verify)
    one more node?           the chance that it is right     >  rate * (one more row to verify)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import final

from jaxtyping import Float
from torch import Tensor

from specvlm.engine.kv_cache import KVCache
from specvlm.engine.tree import DraftTree, Growth, TreeShape
from specvlm.planning.costs import Costs
from specvlm.planning.experience import Experience

MAX_NODES = 48
"""Guesses in a tree; the target's cache has room for them."""

MAX_DEPTH = 24
MAX_WIDTH = 6
"""Branches that one draft forward goes on with."""

CHILDREN = 4
"""Guesses that are looked at behind each of them."""

HORIZON = 6
"""Draft forwards that one thinks ahead: the first alone may not pay where several do."""


@dataclass(frozen=True)
class Now:
    """What the decisions of one round hang on."""

    target: Costs
    draft: Costs
    experience: Experience
    target_cached: int
    draft_cached: int

    @property
    def rate(self) -> float:
        """Tokens a second that are to be had elsewhere."""
        return max(self.experience.pace.value(0.0), 1 / self.verify(0))

    def verify(self, num_nodes: int) -> float:
        """Seconds to verify a tree with so many guesses."""
        return self.target.forward(1 + num_nodes, self.target_cached)

    def guess(self, rows: int) -> float:
        """Seconds of a draft forward."""
        return self.draft.forward(rows, self.draft_cached)

    def worth(self, value: float, depth: int, rows: int, num_nodes: int, levels_left: int) -> float:
        """Tokens to be won by drafting on: by as many forwards as are best, less what their time is worth.

        `value` is the chance that the answer comes by the nodes to be fed, which are `depth` deep and whose first
        forward has so many `rows`; there are `num_nodes` guesses already that are worth verifying.
        """
        best, tokens, chance, before = float("-inf"), 0.0, value, self.verify(num_nodes)
        seconds = self.guess(rows)
        for level in range(1, min(levels_left, HORIZON) + 1):
            chance *= self.experience.acceptance.at_depth(depth + level)
            tokens += chance
            best = max(best, tokens - self.rate * (seconds + self.verify(num_nodes + level) - before))
            seconds += self.guess(1)
        return best


@final
class PlannedGrowth(Growth):
    """The tree of one round. The next nodes to be fed are the likeliest leaves, however deep they are."""

    def __init__(self, root: int, now: Now, max_depth: int) -> None:
        self.tokens, self.parents = [root], [-1]
        self._now, self._levels_left = now, max_depth
        self._values, self._depths, self._confidences = [1.0], [0], [1.0]
        self._leaves: list[int] = []
        self._fed, self._seconds = [0], 0.0

    def extend(self, logits: Float[Tensor, "frontier vocab"]) -> list[int]:
        self._levels_left -= 1
        self._seconds += self._now.guess(len(self._fed))
        probs, guesses = logits.float().softmax(-1).topk(min(CHILDREN, logits.shape[-1]), dim=-1)
        for parent, row_probs, row_guesses in zip(self._fed, probs.tolist(), guesses.tolist(), strict=True):
            for confidence, guess in zip(row_probs, row_guesses, strict=True):
                self._add(parent, guess, confidence)
        self._fed = self._next() if self._levels_left else []
        return list(self._fed)

    def _add(self, parent: int, token: int, confidence: float) -> None:
        self._leaves.append(len(self.tokens))
        self.tokens.append(token)
        self.parents.append(parent)
        self._confidences.append(confidence)
        self._values.append(self._values[parent] * self._now.experience.acceptance.of_guess(confidence))
        self._depths.append(self._depths[parent] + 1)

    def _best(self, nodes: Sequence[int]) -> list[int]:
        """The likeliest first; among equals the older, so that a parent always comes before its child."""
        return sorted(nodes, key=lambda node: (-self._values[node], node))

    def _next(self) -> list[int]:
        """The leaves to feed, or none if no forward pays any more."""
        now, leaves = self._now, self._best(self._leaves)[:MAX_WIDTH]
        rows, best = 1, float("-inf")
        for count, value in enumerate(accumulate(self._values[leaf] for leaf in leaves), start=1):
            gain = value * now.experience.acceptance.at_depth(
                self._depths[leaves[count - 1]] + 1
            ) - now.rate * now.guess(count)
            if gain > best:
                rows, best = count, gain
        chosen = leaves[:rows]
        value, depth = sum(self._values[leaf] for leaf in chosen), self._depths[chosen[0]]
        if now.worth(value, depth, rows, self._num_worthy(), self._levels_left) <= 0:
            return []
        self._leaves = [leaf for leaf in self._leaves if leaf not in chosen]
        return sorted(chosen)

    def _num_worthy(self) -> int:
        """How many guesses are worth verifying. The likeliest ones form a tree: none is likelier than its parent."""
        gains = [0.0]
        for count, node in enumerate(self._best(range(1, len(self.tokens)))[:MAX_NODES], start=1):
            dearer = self._now.verify(count) - self._now.verify(count - 1)
            gains.append(gains[-1] + self._values[node] - self._now.rate * dearer)
        return max(range(len(gains)), key=gains.__getitem__)

    def finish(self) -> tuple[DraftTree, list[int]]:
        chosen = [0, *sorted(self._best(range(1, len(self.tokens)))[: self._num_worthy()])]
        number = {node: new for new, node in enumerate(chosen)}
        number[-1] = -1
        tokens = tuple(self.tokens[node] for node in chosen)
        return DraftTree(tokens, tuple(number[self.parents[node]] for node in chosen)), chosen

    def judged(self, nodes: Sequence[int], path: Sequence[int]) -> None:
        right, experience = set(path), self._now.experience
        offered = [node for node in nodes if node and self.parents[node] in right]
        deepest = max((self._depths[node] for node in offered), default=0)
        guesses = [(self._confidences[node], node in right) for node in offered]
        experience.acceptance.learn(guesses, len(path) - 1, deepest)
        experience.pace.add(len(path), self._seconds + self._now.verify(len(nodes) - 1))


@final
class PlannedTree(TreeShape):
    """The shape of one answer's trees, each as large as pays in its round.

    Where no guess pays, none is made, but for one now and then: things may have changed.
    """

    def __init__(self, target: Costs, draft: Costs, experience: Experience, caches: tuple[KVCache, KVCache]) -> None:
        """`caches` are the target's and the draft's, whose lengths are part of the cost."""
        self._target, self._draft, self._experience, self._caches = target, draft, experience, caches

    @property
    def max_nodes(self) -> int:
        return 1 + MAX_NODES

    def cut(self, max_depth: int) -> TreeShape:
        raise NotImplementedError("a planned tree finds its own depth")

    def sprout(self, root: int, max_depth: int) -> Growth | None:
        if not max_depth:
            return None
        lengths = (cache.length for cache in self._caches)
        now, levels = Now(self._target, self._draft, self._experience, *lengths), min(max_depth, MAX_DEPTH)
        pays = now.worth(1.0, 0, 1, 0, levels) > 0
        if not self._experience.trials.ask(pays):
            self._experience.pace.add(1, now.verify(0))
            return None
        return PlannedGrowth(root, now, levels if pays else 1)
