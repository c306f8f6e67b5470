"""Report: what the host reads of a round, in one copy."""

from __future__ import annotations

from dataclasses import dataclass

from specvlm.engine.rounds.envelope import Envelope
from specvlm.engine.tree import DraftTree


@dataclass(frozen=True)
class Report:
    """A round that is over."""

    tree: DraftTree
    num_draft_forwards: int
    path: tuple[int, ...]
    tokens: tuple[int, ...]
    """What was emitted: the accepted nodes' tokens, and the target's own after them."""
    ended: bool
    """Whether the last of them ends the answer."""
    unread: tuple[int, ...]
    """The token before the last one, if the draft hasn't read it."""

    @classmethod
    def read(cls, numbers: list[int], envelope: Envelope) -> Report:
        """From what `DeviceRound.settle` has written, on the host."""
        longest, nodes = envelope.levels + 1, envelope.num_nodes + 1
        (count, ended, waiting), rest = numbers[:3], iter(numbers[3:])
        said, path, tokens, parents = ([next(rest) for _ in range(size)] for size in (longest, longest, nodes, nodes))
        tree = DraftTree(tuple(tokens), (-1, *parents[1:]))
        unread = said[count - waiting : count - 1]
        return cls(tree, envelope.levels, tuple(path[:count]), tuple(said[:count]), bool(ended), tuple(unread))
