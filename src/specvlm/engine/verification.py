"""Verification: which of the guesses are the target's own words. A pure function of the tree and a chooser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from specvlm.engine.tree import DraftTree

Choose = Callable[[int, tuple[int, ...]], int | None]
"""The target's token after a node: (node, tokens on the way from the root to it, root left out) -> token. None: that is
not for this forward to say."""


@dataclass(frozen=True)
class Verdict:
    """What one target forward settled: the accepted nodes (root first) and the target's own token after them."""

    path: tuple[int, ...]
    next_token: int

    @property
    def num_accepted(self) -> int:
        """Draft tokens that the target agreed with."""
        return len(self.path) - 1


@dataclass(frozen=True)
class Undecided:
    """The accepted nodes, after which the chooser wouldn't choose."""

    path: tuple[int, ...]


def verify(
    tree: DraftTree, choose: Choose, stop: Callable[[tuple[int, ...]], bool] = lambda tokens: False
) -> Verdict | Undecided:
    """Follow the target's own tokens down the draft tree until they leave it, or until `stop(tokens)`.

    The result is what the target alone would emit: at each node the target chooses, and the tree only tells whether
    the logits after that choice are known already. `choose` is asked exactly once per emitted token, in order, so a
    chooser that draws random numbers draws the same ones as plain decoding would; hence sampling is lossless too. So is
    `stop`, with all tokens of this round up to that one: whoever counts calls counts those of plain decoding.

            0 "the"            choose(0) = cat  -> node 1
           / \\                choose(1) = ran  -> no such child: leave
        1 cat  2 dog           path = (0, 1), next_token = "ran"

    Greedy case: SpecInfer (arXiv:2305.09781).
    """
    children = tree.children()
    path, tokens = (0,), ()
    while True:
        token = choose(path[-1], tokens)
        if token is None:
            return Undecided(path)
        tokens = (*tokens, token)
        child = children.get((path[-1], token))
        if stop(tokens) or child is None:
            return Verdict(path, token)
        path = (*path, child)
