"""Drafters: how a tree is proposed."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from specvlm.engine.decoder import Decoder
from specvlm.engine.kv_cache import TreeCache
from specvlm.engine.tree import DraftTree, TreeShape
from specvlm.engine.verification import Verdict


class Drafter(abc.ABC):
    """Proposes trees for one answer. It owns the draft's side of the answer's state."""

    @property
    @abc.abstractmethod
    def max_nodes(self) -> int:
        """The most nodes that a proposal can have, the root included: what the target's cache must have room for."""

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
        self._shape, self._cache = shape, cache
        self._draft = _Draft(decoder, cache, vocab_size)
        self._next_position = next_position  # of the next token that joins the answer's branch for good
        self._waiting: list[int] = []
        self._grown = _ungrown(0)

    @property
    def max_nodes(self) -> int:
        return self._shape.max_nodes

    def propose(self, root: int, max_depth: int) -> DraftTree:
        self._grown = _ungrown(root)
        if max_depth >= 1:  # else this round emits the answer's last token, and no guess could be used
            text = [*self._waiting, root]
            self._grown = self._draft.grow(self._shape, text, self._next_position, max_depth)
            self._next_position += len(text)
        return self._grown.tree

    def accept(self, verdict: Verdict) -> None:
        tree, fed = self._grown.tree, self._grown.fed_on(verdict.path)
        self._cache.keep(fed, len(self._grown.fed))
        self._next_position += len(fed)
        # The fed nodes of a path are its first ones: a node is fed only if its parent was.
        self._waiting = [tree.tokens[node] for node in verdict.path[1 + len(fed) :]]


@dataclass(frozen=True)
class _Grown:
    """A proposal, and what was fed while it grew."""

    tree: DraftTree
    numbers: list[int]
    """For each node of the tree, its number while it grew."""
    fed: list[int]
    """Those numbers, in the order of their cache positions after the root's."""

    def fed_on(self, path: Sequence[int]) -> list[int]:
        """Indices into `fed` of the nodes on a path."""
        on_path = {self.numbers[node] for node in path}
        return [index for index, number in enumerate(self.fed) if number in on_path]


def _ungrown(root: int) -> _Grown:
    return _Grown(DraftTree((root,), (-1,)), [0], [])


@dataclass(frozen=True)
class _Draft:
    """A model that guesses, over a cache that it appends to."""

    decoder: Decoder
    cache: TreeCache
    vocab_size: int
    """Ids from here on are never guessed; the model's own vocabulary may be larger or smaller."""

    def grow(self, shape: TreeShape, text: list[int], position: int, max_depth: int) -> _Grown:
        """Feed `text`, which stands at `position` and ends with the root, and grow a tree from there."""
        growth, fed = shape.sprout(text[-1], max_depth), []
        root_position = position + len(text) - 1
        logits = self._step(text, position + torch.arange(len(text)), None)[-1:]
        while frontier := growth.extend(logits):
            # A guess sees the prompt, the answer, its own ancestors and itself.
            branches = [_branch(growth.parents, node) for node in frontier]
            settled = self.cache.length - len(fed)
            fed += frontier
            sees = torch.tensor([[True] * settled + [number in branch for number in fed] for branch in branches])
            depths = torch.tensor([len(branch) for branch in branches])
            logits = self._step([growth.tokens[node] for node in frontier], root_position + depths, sees)
        return _Grown(*growth.finish(), fed)

    def _step(
        self, tokens: list[int], positions: Int[Tensor, " new"], mask: Bool[Tensor, "new length"] | None
    ) -> Float[Tensor, "new vocab"]:
        return self.decoder.step(torch.tensor(tokens), positions[None], mask, self.cache)[:, : self.vocab_size]


def _branch(parents: list[int], node: int) -> set[int]:
    """The node and its ancestors below the root."""
    branch = set()
    while node > 0:
        branch.add(node)
        node = parents[node]
    return branch
