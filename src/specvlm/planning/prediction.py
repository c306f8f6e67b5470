"""Prediction: what speculation should bring, from what forwards cost and an assumption about guesses alone.

Where every guess of a rank is assumed to be as likely as any other of that rank, the best tree is found by trying every
depth and size (as in Sequoia, arXiv:2402.12374). A plan in use does better: it knows the draft's confidence.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from specvlm.engine.tree import TreeTemplate
from specvlm.planning.costs import PairCosts
from specvlm.planning.planner import Planner
from specvlm.planning.prices import MAX_DEPTH, MAX_NODES, MAX_WIDTH
from specvlm.planning.ratios import FIRST
from specvlm.planning.tree import CHILDREN

RATES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""How often the draft's best guess may be right."""


def chances(rate: float) -> tuple[float, ...]:
    """Of the draft's best guess, its next best, ...: the best one is right at a `rate` where all before it was, and
    each further one in half of the cases that are left, but no oftener than the one before. That is an assumption."""
    left, each = 1 - rate, [rate]
    while len(each) < CHILDREN:
        each.append(min(each[-1], left / 2))
        left -= each[-1]
    return tuple(each)


@dataclass(frozen=True)
class Expected:
    """A round with trees of one shape, in the long run."""

    depth: int
    """Draft forwards, one for each level; 0 is plain decoding."""
    num_nodes: int
    """Guesses in a tree."""
    tokens: float
    """Mean acceptance length: tokens that a round emits, bonus included."""
    seconds: float
    speedup: float
    """Over plain decoding, prefills left out."""

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds


def expected(
    tree: TreeTemplate | None, rate: float, costs: PairCosts, target_cached: int, draft_cached: int
) -> Expected:
    """A round with trees like this one, or without guesses. `cached` are the tokens that each model looks back at."""
    plain = costs.target.forward(1, target_cached)
    if tree is None:
        return Expected(0, 0, 1.0, plain, 1.0)
    right, values, depths = chances(rate), [1.0], [0]
    for parent, rank in zip(tree.parents[1:], tree.ranks[1:], strict=True):
        values.append(values[parent] * right[rank])
        depths.append(depths[parent] + 1)
    fed = Counter(depths[parent] for parent in set(tree.parents[1:]))
    drafting = sum(costs.draft.forward(rows, draft_cached) for rows in fed.values())
    seconds = drafting + costs.target.forward(len(values), target_cached)
    tokens = sum(values)
    return Expected(len(fed), len(values) - 1, tokens, seconds, tokens * plain / seconds)


def best(rate: float, costs: PairCosts, target_cached: int, draft_cached: int) -> Expected:
    """A round with the best tree of one shape, or none."""
    trees = (None, *(tree for depth in range(1, MAX_DEPTH + 1) for tree in likeliest(rate, depth)))
    found = (expected(tree, rate, costs, target_cached, draft_cached) for tree in trees)
    return max(found, key=lambda each: each.speedup)


@dataclass(frozen=True)
class Outlook:
    """A whole answer, where the draft's best guess is right at a `rate`."""

    rate: float
    pruning_ratio: float
    """Which a plan would try next, had it found guesses to be so good at the ratio that it tries first."""
    round: Expected
    speedup_with_reading: float
    """Over plain decoding, the time counted in which the draft reads its prompt."""


def outlook(rate: float, costs: PairCosts, num_prompt_tokens: int, num_video_tokens: int, num_tokens: int) -> Outlook:
    """An answer of `num_tokens` to such a prompt; a round is one in its middle. Without guesses, if they don't pay."""
    behind, middle = num_tokens - 1, num_tokens // 2

    def seen(ratio: float) -> int:
        return num_prompt_tokens - round(num_video_tokens * ratio)

    first = best(rate, costs, num_prompt_tokens + middle, seen(FIRST) + middle)
    planner = Planner(costs)
    planner.lengths.add(behind)
    planner.ratios.learn(FIRST, behind, behind / first.speedup)
    ratio = planner.pruning_ratio(num_prompt_tokens, num_video_tokens, num_tokens)
    found = best(rate, costs, num_prompt_tokens + middle, seen(ratio) + middle)
    plain = expected(None, rate, costs, num_prompt_tokens + middle, 0)
    speedup = behind * plain.seconds / (behind / found.tokens_per_second + costs.reading(seen(ratio)))
    return Outlook(rate, ratio, *((found, speedup) if speedup > 1 else (plain, 1.0)))


def likeliest(rate: float, depth: int) -> Iterator[TreeTemplate]:
    """Of each size, the tree of the likeliest guesses, up to `depth` deep, that a plan's limits allow."""
    right, parents, ranks, depths = chances(rate), [-1], [0], [0]
    inner: dict[int, set[int]] = {level: set() for level in range(depth)}
    open_nodes = [(-right[0], 0, 0)]  # (chance, parent, rank): a node's next sibling follows it, and its first child
    values = [1.0]
    while open_nodes and len(parents) <= MAX_NODES:
        value, parent, rank = heapq.heappop(open_nodes)
        level = depths[parent]
        if parent not in inner[level] and len(inner[level]) == MAX_WIDTH:
            continue
        inner[level].add(parent)
        node = len(parents)
        parents.append(parent)
        ranks.append(rank)
        depths.append(level + 1)
        values.append(-value)
        if rank + 1 < len(right):
            heapq.heappush(open_nodes, (-values[parent] * right[rank + 1], parent, rank + 1))
        if level + 1 < depth:
            heapq.heappush(open_nodes, (value * right[0], node, 0))
        yield TreeTemplate(tuple(parents), tuple(ranks))
