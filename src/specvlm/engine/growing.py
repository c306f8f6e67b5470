"""Growing a tree with a model: what is fed to it, where that stands, and what it sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from specvlm.engine.caches.kv_cache import KVCache
from specvlm.engine.decoder import Decoder
from specvlm.engine.tree import DraftTree, Growth, TreeShape


@dataclass(frozen=True)
class Grown:
    """A proposal, and what was fed while it grew."""

    tree: DraftTree
    numbers: list[int]
    """For each node of the tree, its number while it grew."""
    fed: list[int]
    """Those numbers, in the order of their cache positions after the root's."""
    growth: Growth | None
    num_forwards: int

    @classmethod
    def bare(cls, root: int) -> Grown:
        """The root alone, for which no model was asked."""
        return cls(DraftTree((root,), (-1,)), [0], [], None, 0)

    def accept(self, path: Sequence[int]) -> list[int]:
        """Tell the growth which of its nodes were right. Returns indices into `fed` of the nodes on the path."""
        on_path = [self.numbers[node] for node in path]
        if self.growth is not None:
            self.growth.judged(self.numbers, on_path)
        return [index for index, number in enumerate(self.fed) if number in on_path]


@dataclass(frozen=True)
class Grower:
    """Grows trees of one shape by asking a model, over a cache that it appends to."""

    decoder: Decoder
    shape: TreeShape
    cache: KVCache
    vocab_size: int
    """No id from here on is proposed; the model's own vocabulary may be larger or smaller."""

    def grow(self, text: list[int], position: int, max_depth: int) -> Grown | None:
        """Feed `text`, which begins at `position` and ends with the root, and grow a tree from there.

        None, and nothing fed, where the shape has no use for a guess.
        """
        growth = self.shape.sprout(text[-1], max_depth)
        if growth is None:
            return None
        root_position = position + len(text) - 1
        logits = self._step(text, position + torch.arange(len(text)), None)[-1:]
        settled, fed, num_forwards = self.cache.length, [], 1
        while frontier := growth.extend(logits):
            # A guess sees the prompt, the answer, its own ancestors and itself.
            branches = [_branch(growth.parents, node) for node in frontier]
            fed += frontier
            sees = torch.ones(len(frontier), settled + len(fed), dtype=torch.bool)
            sees[:, settled:] = torch.tensor([[number in branch for number in fed] for branch in branches])
            depths = torch.tensor([len(branch) for branch in branches])
            logits = self._step([growth.tokens[node] for node in frontier], root_position + depths, sees)
            num_forwards += 1
        return Grown(*growth.finish(), fed, growth, num_forwards)

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
