"""Branches: who comes from whom among positions that hang from a kept state, and in which order they can be read.

        kept state (-1)            parents = (-1, 0, 0, 1)      of the nodes 0, 1, 2, 3
             |
             0                     levels: 0 | 1, 2 | 3         each reads its parent's state
            / \\
           1   2                   line of 3: 3, 1, 0, -1, -2   -1 is the newest position in the kept state,
           |                                                    -2 the one before
           3
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import final

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from specvlm.engine.literals import longs


@final
@dataclass(frozen=True, eq=False)
class Level:
    """Nodes that are read together: `rows` of a forward, and for each its parent's place in the level before."""

    rows: Int[Tensor, " n"]
    parents: Int[Tensor, " n"]
    siblings: bool
    """Whether all have one and the same parent, and there is no other in the level before."""
    heirs: bool
    """Whether each has the parent that stands where it stands."""

    def inherit(self, states: Tensor | None) -> Tensor | None:
        """For each node its parent's state, of those of the level before; copied only where branches part."""
        if states is None or self.heirs:
            return states
        if self.siblings:
            return states.expand(len(self.rows), *states.shape[1:])
        return states.index_select(0, self.parents.to(states.device))


@final
@dataclass(frozen=True, eq=False)
class Plan:
    """How one forward over the nodes from `first` on is read."""

    parents: tuple[int, ...]
    """Of all nodes that hang from the kept state, those of this forward last."""
    first: int
    roots: tuple[int, ...]
    """Nodes of earlier forwards, or -1 for the kept state, from which the first level comes."""
    levels: tuple[Level, ...]
    order: Int[Tensor, " n"] | None
    """Where each row stands among the levels, one behind the other; None: they are in the order of the rows."""
    tips: tuple[int, ...]
    """The nodes of the last level, whose states are held behind it."""
    tips_before: tuple[int, ...]
    """Those whose states are held before it."""

    @classmethod
    def of(cls, parents: Sequence[int], first: int, tips: Sequence[int], device: torch.device) -> Plan:
        """`parents` of all nodes, each a lower number or -1; of the nodes `tips`, before `first`, states are held."""
        depths: dict[int, int] = {}
        by_depth: list[list[int]] = []
        for node in range(first, len(parents)):
            depths[node] = depths[parents[node]] + 1 if parents[node] >= first else 0
            if depths[node] == len(by_depth):
                by_depth.append([])
            by_depth[depths[node]].append(node)
        before = roots = tuple(dict.fromkeys(parents[node] for node in by_depth[0]))
        levels = []
        for nodes in by_depth:
            place = {node: index for index, node in enumerate(before)}
            places = [place[parents[node]] for node in nodes]
            rows = longs([node - first for node in nodes]).to(device)
            heirs = places == list(range(len(before)))
            levels.append(Level(rows, longs(places).to(device), len(before) == 1, heirs))
            before = tuple(nodes)
        flat = [node - first for nodes in by_depth for node in nodes]
        order = None if flat == sorted(flat) else longs(flat).argsort().to(device)
        return cls(tuple(parents), first, roots, tuple(levels), order, before, tuple(tips))

    def windows(self, width: int) -> Int[Tensor, "n wide"]:
        """Which columns a convolution of `width` reads for each row, its own last: of the `width` that are kept, and
        behind them one for each node."""
        new = range(self.first, len(self.parents))
        return longs([[width + node for node in line(self.parents, node, width + 1)][::-1] for node in new])


def line(parents: Sequence[int], node: int, count: int) -> Iterator[int]:
    """`count` positions upwards from `node`, itself first: its ancestors, then -1, -2, ... in the kept state."""
    return islice(_upwards(parents, node), count)


def ancestry(parents: Sequence[int], node: int) -> list[int]:
    """All nodes from the kept state down to `node`, itself last."""
    found = []
    while node >= 0:
        found.append(node)
        node = parents[node]
    return found[::-1]


def _upwards(parents: Sequence[int], node: int) -> Iterator[int]:
    while True:
        yield node
        node = parents[node] if node >= 0 else node - 1


def parents_seen(parents: Sequence[int], count: int, mask: Bool[Tensor, "count last"] | None) -> tuple[int, ...]:
    """`parents`, and those of `count` more nodes, that see what `mask` says of the `last` positions (None: all).

    A node's parent is the last position that it sees beside itself. Errors: ValueError unless a node sees the kept
    state, its own branch and nothing else: what was read can't be taken out of a state.
    """
    first = len(parents)
    if mask is None:
        return (*parents, *range(first - 1, first + count - 1))
    start = first + count - mask.shape[1]  # of the mask's columns, in nodes; what is before it all see
    if start < 0 and not mask[:, :-start].all():
        raise ValueError("a mask hides positions that were folded into the kept state")
    rows = mask[:, max(0, -start) :].tolist()
    before, found = list(range(start)), list(parents)
    for node, row in enumerate(rows, first):
        sees = before + [column for column, seen in enumerate(row, max(0, start)) if seen]
        found.append(sees[-2] if len(sees) > 1 else -1)
        if sees[-1:] != [node] or sees != ancestry(found, node):
            raise ValueError(f"node {node} sees {sees}, which is no branch: a state knows all that came before it")
    return tuple(found)
