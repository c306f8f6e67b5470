"""Envelopes: the fixed numbers of rows in which a tree of any contents grows and is verified."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True)
class Envelope:
    """What the tensors of a round measure, whatever is in them.

    At level `l` (0 is the root's) the draft reads `widths[l]` nodes and names the `children[l]` likeliest tokens behind
    each. These *candidates* are numbered through, level by level, row by row, the likeliest first; `num_nodes` of them
    are verified, behind the root.

         level 0: root      1 row,  2 children   ->  candidates 0 1
         level 1: 0 1       2 rows, 2 children   ->  candidates 2 3 4 5          widths (1, 2), children (2, 2)
    """

    widths: tuple[int, ...]
    children: tuple[int, ...]
    num_nodes: int

    def __post_init__(self) -> None:
        if not (self.widths[:1] == (1,) and len(self.children) == len(self.widths)):
            raise ValueError(f"a tree begins with its root, and every level has children: not {self}")
        if min(*self.widths, *self.children, self.num_nodes) < 1:
            raise ValueError(f"an envelope's numbers must be 1 or more, not {self}")

    @property
    def levels(self) -> int:
        """Draft forwards, and the depth of the deepest node."""
        return len(self.widths)

    @property
    def offsets(self) -> tuple[int, ...]:
        """The number of each level's first candidate, and the number of all candidates."""
        sizes = (width * children for width, children in zip(self.widths, self.children, strict=True))
        return tuple(accumulate(sizes, initial=0))

    @property
    def fed_offsets(self) -> tuple[int, ...]:
        """From level 1 on: how many nodes were fed before that level's, the root left out; and how many there are."""
        return tuple(accumulate(self.widths[1:], initial=0))

    @property
    def num_candidates(self) -> int:
        return self.offsets[-1]

    @property
    def num_fed(self) -> int:
        """Candidates that the draft reads, each at a position of its own behind the root."""
        return self.fed_offsets[-1]
