"""Layout: where the nodes of a draft tree stand when it is drawn. Depths are columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from specvlm.explain.explanation import Tree


@dataclass(frozen=True)
class Layout:
    """`rows` of the nodes, from 0; no two nodes of a depth share one, and a path without branches is a straight line.
    `own_row` is that of the target's own token, one column right of the last accepted node."""

    rows: tuple[int, ...]
    own_row: int
    num_rows: int


def layout(tree: Tree) -> Layout:
    """What was accepted runs along the top; every other branch begins in a row below those that came before it."""
    children: list[list[int]] = [[] for _ in tree.parents]
    for node, parent in enumerate(tree.parents):
        if parent >= 0:
            children[parent].append(node)
    rows = [0] * len(children)
    own_row = num_rows = 0
    todo: list[tuple[int, int | None]] = [(0, 0)]
    while todo:
        node, given = todo.pop()
        row = num_rows if given is None else given  # a branch learns its row when all above it stands
        rows[node], num_rows = row, max(num_rows, row + 1)
        below = sorted(children[node], key=lambda child: child not in tree.accepted)
        if node == tree.last:
            own_row, heirs = row, 0
        else:
            heirs = 1
        todo += [(child, None) for child in reversed(below[heirs:])]
        todo += [(child, row) for child in below[:heirs]]
    return Layout(tuple(rows), own_row, num_rows)
