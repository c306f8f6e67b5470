"""Growing a tree with a model: what is fed to it, where that stands, and what it sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from specvlm.engine.caches.kv_cache import KVCache
from specvlm.engine.decoder import Decoder
from specvlm.engine.literals import flags, longs
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
        right = set(on_path)
        return [index for index, number in enumerate(self.fed) if number in right]


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
        root = position + len(text) - 1
        logits = self._step(text, list(range(position, root + 1)), None)[-1:]
        parents, tokens, fed, num_forwards = growth.parents, growth.tokens, list[int](), 1
        branches = {0: 0}  # for each fed node, a bit for each that was fed no later: is it on the node's branch?
        while frontier := growth.extend(logits):
            # A guess sees the prompt, the answer, its own ancestors and itself.
            sees = tuple([1 << place | branches[parents[node]] for place, node in enumerate(frontier, len(fed))])
            branches.update(zip(frontier, sees, strict=True))
            fed += frontier
            positions = [root + branch.bit_count() for branch in sees]
            is_chain = len(sees) == 1 and sees[0].bit_count() == len(fed)
            logits = self._step([tokens[node] for node in frontier], positions, None if is_chain else flags(sees))
            num_forwards += 1
        return Grown(*growth.finish(), fed, growth, num_forwards)

    def _step(
        self, tokens: list[int], positions: list[int], mask: Bool[Tensor, "new last"] | None
    ) -> Float[Tensor, "new vocab"]:
        logits = self.decoder.step(longs(tokens), longs([positions]), mask, self.cache)
        return logits if logits.shape[-1] <= self.vocab_size else logits[:, : self.vocab_size]
