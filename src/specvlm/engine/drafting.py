"""Drafters: how a tree is proposed."""

from __future__ import annotations

import abc

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specvlm.engine.decoder import Decoder
from specvlm.engine.tree import DraftTree, Growth, TreeShape
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
        self,
        decoder: Decoder,
        shape: TreeShape,
        embeds: Float[Tensor, "L D"],
        positions: Int[Tensor, "R L"],
        max_new_tokens: int,
        vocab_size: int,
    ) -> None:
        """Prefill the draft with its prompt. `vocab_size` is the target's: ids beyond it are never proposed."""
        self._decoder, self._shape = decoder, shape
        self._vocab_size = min(vocab_size, decoder.vocab_size)
        self._cache = decoder.new_cache(embeds.shape[0] + max_new_tokens + shape.max_nodes)
        decoder.prefill(embeds, positions, self._cache)
        self._next_positions = positions.amax(1) + 1  # of the next token that joins the answer's branch for good
        self._waiting: list[int] = []
        self._tree = DraftTree((0,), (-1,))
        self._numbers = [0]  # for each node of the tree, its number while it grew
        self._fed: list[int] = []  # those numbers, in the order of their cache positions after the root's

    @property
    def max_nodes(self) -> int:
        return self._shape.max_nodes

    def propose(self, root: int, max_depth: int) -> DraftTree:
        self._tree, self._numbers, self._fed = DraftTree((root,), (-1,)), [0], []
        if max_depth >= 1:  # else this round emits the answer's last token, and no guess could be used
            growth = self._shape.sprout(root, max_depth)
            logits = self._feed_answer([*self._waiting, root])
            while frontier := growth.extend(logits):
                logits = self._feed_nodes(growth, frontier)
            self._tree, self._numbers = growth.finish()
        return self._tree

    def accept(self, verdict: Verdict) -> None:
        on_path = {self._numbers[node] for node in verdict.path}
        slots = [slot for slot, number in enumerate(self._fed) if number in on_path]
        self._cache.keep(slots, len(self._fed))
        self._next_positions = self._next_positions + len(slots)
        # The fed nodes of a path are its first ones: a node is fed only if its parent was.
        self._waiting = [self._tree.tokens[node] for node in verdict.path[1 + len(slots) :]]

    def _feed_answer(self, tokens: list[int]) -> Float[Tensor, "1 vocab"]:
        """Feed tokens that are part of the answer; the logits after the last one."""
        positions = self._next_positions[:, None] + torch.arange(len(tokens))
        self._next_positions = self._next_positions + len(tokens)
        logits = self._decoder.step(torch.tensor(tokens), positions, None, self._cache)
        return logits[-1:, : self._vocab_size]

    def _feed_nodes(self, growth: Growth, frontier: list[int]) -> Float[Tensor, "frontier vocab"]:
        """Feed guesses; each sees the prompt, the answer, its own ancestors and itself."""
        branches = [_branch(growth.parents, node) for node in frontier]
        fed = [*self._fed, *frontier]
        settled = self._cache.length - len(self._fed)
        sees = [[True] * settled + [number in branch for number in fed] for branch in branches]
        depths = torch.tensor([len(branch) for branch in branches])
        positions = self._next_positions[:, None] - 1 + depths
        self._fed = fed
        tokens = torch.tensor([growth.tokens[node] for node in frontier])
        return self._decoder.step(tokens, positions, torch.tensor(sees), self._cache)[:, : self._vocab_size]


def _branch(parents: list[int], node: int) -> set[int]:
    """The node and its ancestors below the root."""
    branch = set()
    while node > 0:
        branch.add(node)
        node = parents[node]
    return branch
