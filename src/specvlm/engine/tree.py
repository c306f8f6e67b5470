"""Draft trees: the tree itself, fixed templates, and the two ways to grow one.

A tree hangs from the last emitted token (node 0). Each other node is a guess at the token after its parent.

         0 "the"              tokens  = (the, cat, dog, sat)
        / \\                   parents = (-1, 0, 0, 1)
    1 cat  2 dog              depths  = (0, 1, 1, 2)
      |
    3 sat                     mask: 3 sees 0, 1, 3 (its own branch), never 2
"""

from __future__ import annotations

import abc
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import isnan

from jaxtyping import Bool, Float, Int
from torch import Tensor

from specvlm.engine.literals import flags

NEVER = float("-inf")
"""The log-probability of what can't be."""


@dataclass(frozen=True)
class DraftTree:
    """A tree of guessed tokens, parents before children; node 0 is the last emitted token."""

    tokens: tuple[int, ...]
    parents: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def depths(self) -> tuple[int, ...]:
        """Distance of each node from the root."""
        return _depths(self.parents)

    @property
    def mask(self) -> Bool[Tensor, "nodes nodes"]:
        """True where the row's node may attend to the column's node: itself and its ancestors. Do not write to it."""
        return ancestor_mask(self.parents)

    def children(self) -> dict[tuple[int, int], int]:
        """Each node by its parent and its token; of two that are alike, the later one."""
        return dict(zip(zip(self.parents, self.tokens, strict=True), range(len(self)), strict=True))


@lru_cache(maxsize=256)
def _depths(parents: tuple[int, ...]) -> tuple[int, ...]:
    depths: list[int] = []
    for parent in parents:
        depths.append(0 if parent < 0 else depths[parent] + 1)
    return tuple(depths)


@lru_cache(maxsize=256)
def ancestor_mask(parents: tuple[int, ...]) -> Bool[Tensor, "nodes nodes"]:
    """Row i is True at i and at all its ancestors. Cached, since a fixed template asks for the same one every round."""
    rows: list[int] = []
    for node, parent in enumerate(parents):
        rows.append(1 << node | (0 if parent < 0 else rows[parent]))
    return flags(tuple(rows))


class TreeShape(abc.ABC):
    """How trees are grown: a fixed template, or by the draft's confidence. Immutable, shared by all requests."""

    @property
    @abc.abstractmethod
    def max_nodes(self) -> int:
        """The most nodes that a tree of this shape can have, the root included."""

    @abc.abstractmethod
    def cut(self, max_depth: int) -> TreeShape:
        """The same shape, but at most `max_depth` levels deep."""

    @abc.abstractmethod
    def sprout(self, root: int, max_depth: int) -> Growth | None:
        """Begin a tree at the token `root`, not deeper than `max_depth` levels below it.

        None where no guess is wanted: at a `max_depth` of 0 the round emits the answer's last token anyway.
        """


class Growth(abc.ABC):
    """One tree while it grows. `extend` is called once per draft forward, with the logits of the nodes it named last.

    `tokens` and `parents` list all nodes made so far; the first call is for the root alone.
    """

    tokens: list[int]
    parents: list[int]

    @abc.abstractmethod
    def extend(self, logits: Float[Tensor, "frontier vocab"]) -> list[int]:
        """Add the children of the frontier. Return the new frontier: nodes that the draft must see next, or none."""

    @abc.abstractmethod
    def finish(self) -> tuple[DraftTree, list[int]]:
        """The finished tree and, for each of its nodes, that node's number in `tokens`."""

    def judged(self, nodes: Sequence[int], path: Sequence[int]) -> None:  # noqa: B027 (most shapes don't learn)
        """Learn what the target made of the tree: of the `nodes` that it saw, those on the `path` were right, and what
        it said after the last of them was not among its children. All by their number in `tokens`."""


@dataclass(frozen=True)
class TreeTemplate(TreeShape):
    """A fixed tree: node i is its parent's `ranks[i]`-th best guess (0 = the best). Node 0 is the root."""

    parents: tuple[int, ...]
    ranks: tuple[int, ...]

    @classmethod
    def from_paths(cls, paths: Iterable[Sequence[int]]) -> TreeTemplate:
        """Build from paths of ranks: `(0, 2)` is the third guess after the best first guess.

        Errors: ValueError for an empty list or path, a negative or non-integer rank, or a path whose parent is missing.
        """
        given = [tuple(path) for path in paths]
        wanted = sorted(set(given), key=lambda path: (len(path), path))
        if not wanted:
            raise ValueError("a draft tree needs at least one path, such as [(0,)]")
        nodes: dict[tuple[int, ...], int] = {(): 0}
        parents, ranks = [-1], [0]
        for path in wanted:
            if not path or any(not isinstance(rank, int) or isinstance(rank, bool) or rank < 0 for rank in path):
                raise ValueError(f"a path of a draft tree is one or more ranks of 0 and up, not {path}")
            if path[:-1] not in nodes:
                raise ValueError(f"the draft tree has the path {path} but not its parent {path[:-1]}")
            nodes[path] = len(parents)
            parents.append(nodes[path[:-1]])
            ranks.append(path[-1])
        return cls(tuple(parents), tuple(ranks))

    @property
    def max_nodes(self) -> int:
        return len(self.parents)

    def cut(self, max_depth: int) -> TreeTemplate:
        """The part of the template that is at most `max_depth` levels deep. Nodes are in order of depth."""
        size = bisect_right(_depths(self.parents), max_depth)
        return self if size == len(self.parents) else TreeTemplate(self.parents[:size], self.ranks[:size])

    def sprout(self, root: int, max_depth: int) -> Growth | None:
        return _TemplateGrowth(self.cut(max_depth), root) if max_depth else None


class _TemplateGrowth(Growth):
    def __init__(self, template: TreeTemplate, root: int) -> None:
        self.tokens = [root]
        self.parents = [-1]
        self._levels = iter(_levels(template.parents, template.ranks))

    def extend(self, logits: Float[Tensor, "frontier vocab"]) -> list[int]:
        level = next(self._levels)
        best = min(level.best, logits.shape[-1])
        guesses = logits.topk(best, dim=-1).indices.tolist()
        # A rank beyond the vocabulary has no token: the last one again. Such a node is a duplicate, never a lie.
        self.tokens += [guesses[row][min(rank, best - 1)] for row, rank in level.picks]
        self.parents += level.parents
        return list(level.frontier)

    def finish(self) -> tuple[DraftTree, list[int]]:
        return DraftTree(tuple(self.tokens), tuple(self.parents)), list(range(len(self.tokens)))


def likeliest(
    logits: Float[Tensor, "rows vocab"], count: int
) -> tuple[Float[Tensor, "rows count"], Int[Tensor, "rows count"]]:
    """Log-probabilities of the `count` likeliest tokens of each row, best first, and which they are.

    Logits that overflow make no guess likely.
    """
    log_probs, tokens = _of_best(logits, count)
    return log_probs.nan_to_num_(NEVER, float("inf"), NEVER), tokens


def most_confident(logits: Float[Tensor, "rows vocab"], count: int) -> tuple[list[list[float]], list[list[int]]]:
    """Probabilities of the `count` likeliest tokens of each row, best first, and which they are.

    Logits that overflow make no guess likely.
    """
    probabilities, tokens = logits.float().softmax(-1).topk(count, dim=-1)
    rows = [[0.0] * count if isnan(row[0]) else row for row in probabilities.tolist()]
    return rows, tokens.tolist()


def _likeliest(logits: Float[Tensor, "rows vocab"], count: int) -> tuple[list[list[float]], list[list[int]]]:
    """As `likeliest`, as lists."""
    log_probs, tokens = _of_best(logits, count)
    # A logit that overflows is in the sum, and so leaves no number in its row.
    rows = [[NEVER] * count if isnan(row[0]) else row for row in log_probs.tolist()]
    return rows, tokens.tolist()


def _of_best(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    wide = logits.float()
    # Of the logits and not of their logarithms, which may tie where those differ.
    tokens = wide.topk(count, dim=-1).indices
    # One kernel for whole vocabularies: `logsumexp` is eight, of which each takes longer than rows of small ones.
    return wide.log_softmax(-1).gather(-1, tokens), tokens


@dataclass(frozen=True)
class _Level:
    """What one draft forward adds to a template's tree."""

    parents: tuple[int, ...]
    picks: tuple[tuple[int, int], ...]
    """For each new node, its parent's row in the forward, and its rank."""
    best: int
    """So many guesses of each row are looked at."""
    frontier: tuple[int, ...]
    """The new nodes that have children: leaves need no draft forward."""


@lru_cache(maxsize=256)
def _levels(parents: tuple[int, ...], ranks: tuple[int, ...]) -> tuple[_Level, ...]:
    levels, frontier, inner = [], (0,), set(parents)
    while frontier:
        rows = {node: row for row, node in enumerate(frontier)}
        new = [node for node, parent in enumerate(parents) if parent in rows]
        picks = tuple((rows[parents[node]], ranks[node]) for node in new)
        frontier = tuple(node for node in new if node in inner)
        best = 1 + max((rank for _, rank in picks), default=0)
        levels.append(_Level(tuple(parents[node] for node in new), picks, best, frontier))
    return tuple(levels)


@dataclass(frozen=True)
class DynamicTree(TreeShape):
    """Grow where the draft is confident, keep the best nodes: EAGLE-2 (arXiv:2406.16858).

    At each of `depth` levels the `width` nodes of highest cumulative draft log-probability get `width` children
    each; of all nodes made, the `num_nodes` best stay. A node is never likelier than its parent, so the best nodes
    form a tree.
    """

    depth: int = 6
    width: int = 2
    num_nodes: int = 12

    def __post_init__(self) -> None:
        for name in ("depth", "width", "num_nodes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} of a dynamic tree must be at least 1, not {getattr(self, name)}")

    @property
    def max_nodes(self) -> int:
        return 1 + self.num_nodes

    def cut(self, max_depth: int) -> DynamicTree:
        return replace(self, depth=min(self.depth, max_depth))

    def sprout(self, root: int, max_depth: int) -> Growth | None:
        return _DynamicGrowth(self, root, min(self.depth, max_depth)) if max_depth else None


class _DynamicGrowth(Growth):
    def __init__(self, shape: DynamicTree, root: int, depth: int) -> None:
        self.tokens = [root]
        self.parents = [-1]
        self._shape, self._levels_left = shape, depth
        self._costs = [0.0]
        """Negative cumulative log-probabilities."""
        self._frontier = [0]

    def extend(self, logits: Float[Tensor, "frontier vocab"]) -> list[int]:
        if self._levels_left < 1:
            return []
        self._levels_left -= 1
        width = min(self._shape.width, logits.shape[-1])
        log_probs, guesses = _likeliest(logits, width)
        first = len(self.tokens)
        for parent, of_guesses, row in zip(self._frontier, log_probs, guesses, strict=True):
            self.tokens += row
            self.parents += [parent] * width
            cost = self._costs[parent]
            self._costs += [cost - log_prob for log_prob in of_guesses]
        new = range(first, len(self.tokens))
        # After the last level nothing is fed: its logits would never be used.
        self._frontier = sorted(self._best(new, self._shape.width)) if self._levels_left else []
        return list(self._frontier)

    def _best(self, nodes: range, count: int) -> list[int]:
        """The `count` likeliest of `nodes`; among equals the older, so that a parent always comes before its child."""
        return sorted(nodes, key=self._costs.__getitem__)[:count]

    def finish(self) -> tuple[DraftTree, list[int]]:
        chosen = [0, *sorted(self._best(range(1, len(self.tokens)), self._shape.num_nodes))]
        number = {node: new for new, node in enumerate(chosen)}
        number[-1] = -1
        tokens = tuple(self.tokens[node] for node in chosen)
        return DraftTree(tokens, tuple(number[self.parents[node]] for node in chosen)), chosen


def chain(depth: int) -> TreeTemplate:
    """`depth` guesses in a row, no branches: speculative decoding as first published (arXiv:2211.17192)."""
    return TreeTemplate.from_paths([(0,) * length for length in range(1, depth + 1)])


# The 25 nodes that EAGLE's code calls mc_sim_7b_63 and SpecVLM (arXiv:2508.16201) uses: levels of 4, 8, 8, 3, 2.
PAPER_TREE = TreeTemplate.from_paths(
    [(0,), (1,), (2,), (3,)]
    + [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0), (2, 1), (3, 0)]
    + [(0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 1, 0), (0, 1, 1), (0, 2, 0), (0, 2, 1), (1, 0, 0)]
    + [(0, 0, 0, 0), (0, 0, 0, 1), (0, 0, 0, 2)]
    + [(0, 0, 0, 0, 0), (0, 0, 0, 0, 1)]
)
