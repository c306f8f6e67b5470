"""Report: what the host reads of a round, in one copy; and RoundPlan, which learns from it."""

from __future__ import annotations

import abc
from dataclasses import dataclass

from specvlm.engine.rounds.envelope import Envelope
from specvlm.engine.tree import DraftTree, DynamicTree, Growth, TreeShape


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


class RoundPlan(TreeShape):
    """A shape that is another one from round to round, for rounds on the device. Of one answer.

    Whoever plays a round asks for its shape before, and tells what came of it afterwards.
    """

    @abc.abstractmethod
    def choose(self, max_depth: int, num_unread: int) -> DynamicTree | None:
        """The next round's shape, not deeper than `max_depth` (1 or more). None: it is to have no guesses, and is the
        host's, who tells nothing of it.

        `num_unread` tokens of the answer, the last one left out, have yet to be read by the draft. All but one are a
        forward of its own.
        """

    @abc.abstractmethod
    def learn(self, report: Report) -> None:
        """From the round whose shape was chosen last."""

    def sprout(self, root: int, max_depth: int) -> Growth | None:
        """None: rounds of the host have no guesses."""
        return None
