"""Drafters: how a tree is proposed."""

from __future__ import annotations

import abc

import torch

from specvlm.engine.caches.kv_cache import TreeCache
from specvlm.engine.decoder import Decoder
from specvlm.engine.growing import Grower, Grown
from specvlm.engine.tree import DraftTree, TreeShape
from specvlm.engine.verification import Verdict


class Drafter(abc.ABC):
    """Proposes trees for one answer. It owns the draft's side of the answer's state."""

    @property
    @abc.abstractmethod
    def max_nodes(self) -> int:
        """The most nodes that a proposal can have, the root included: what the target's cache must have room for."""

    @property
    @abc.abstractmethod
    def num_forwards(self) -> int:
        """Forwards that the last proposal took."""

    @abc.abstractmethod
    def propose(self, root: int, max_depth: int) -> DraftTree:
        """Guess what follows the last emitted token `root`, not deeper than `max_depth`."""

    @abc.abstractmethod
    def accept(self, verdict: Verdict) -> None:
        """Learn which part of the last proposal was right."""


class NoDrafter(Drafter):
    """Proposes nothing: each round is one token of plain decoding, through the same loop."""

    @property
    def max_nodes(self) -> int:
        return 1

    @property
    def num_forwards(self) -> int:
        return 0

    def propose(self, root: int, max_depth: int) -> DraftTree:
        return DraftTree((root,), (-1,))

    def accept(self, verdict: Verdict) -> None:
        pass


class ModelDrafter(Drafter):
    """A small model guesses; SpecVLM's drafter when its prompt was pruned (arXiv:2508.16201).

    Its cache holds, after every `accept`, tokens of the prompt and the answer alone, nothing of the branches that were
    dropped. A token is fed once: accepted nodes that were fed while the tree grew stay in the cache, the others (the
    target's own token, and accepted leaves) wait for the first forward of the next proposal.
    """

    def __init__(
        self, decoder: Decoder, shape: TreeShape, cache: TreeCache, next_position: int, vocab_size: int
    ) -> None:
        """`cache` holds the draft's prompt, behind which the answer begins at `next_position`. No id of `vocab_size`
        (the target's) or more is ever proposed."""
        self._grower, self._cache = Grower(decoder, shape, cache, vocab_size), cache
        self._next_position = next_position  # of the next token that joins the answer's branch for good
        self._waiting: list[int] = []
        self._grown = Grown.bare(0)

    @property
    def shape(self) -> TreeShape:
        return self._grower.shape

    @property
    def cache(self) -> TreeCache:
        return self._cache

    @property
    def vocab_size(self) -> int:
        """No id from here on is proposed: the target has none, or the draft itself."""
        return min(self._grower.vocab_size, self._grower.decoder.vocab_size)

    @property
    def unread(self) -> tuple[int, ...]:
        """Accepted tokens that the draft has yet to read."""
        return tuple(self._waiting)

    @property
    def next_position(self) -> int:
        """Where the first token stands that the draft has yet to read."""
        return self._next_position

    def resume(self, unread: list[int], next_position: int) -> None:
        """Go on from where somebody else has brought the cache."""
        self._waiting, self._next_position = unread, next_position

    def read_up(self) -> None:
        """Read what is unread: after many rounds without guesses that is more than a round on the device would."""
        tokens = torch.tensor(self._waiting)
        positions = self._next_position + torch.arange(len(tokens))
        self._grower.decoder.step(tokens, positions[None], None, self._cache)
        self.resume([], self._next_position + len(tokens))

    @property
    def max_nodes(self) -> int:
        return self.shape.max_nodes

    @property
    def num_forwards(self) -> int:
        return self._grown.num_forwards

    def propose(self, root: int, max_depth: int) -> DraftTree:
        self._waiting.append(root)
        grown = self._grower.grow(self._waiting, self._next_position, max_depth)
        if grown is None:
            self._grown = Grown.bare(root)
        else:
            self._grown = grown
            self._next_position += len(self._waiting)
            self._waiting = []
        return self._grown.tree

    def accept(self, verdict: Verdict) -> None:
        fed = self._grown.accept(verdict.path)
        self._cache.keep(fed, len(self._grown.fed))
        self._next_position += len(fed)
        # The fed nodes of a path are its first ones: a node is fed only if its parent was.
        self._waiting += [self._grown.tree.tokens[node] for node in verdict.path[1 + len(fed) :]]
