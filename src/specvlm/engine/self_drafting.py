"""SelfDrafter: the target guesses for itself, from a cache that leaves most of the video out."""

from __future__ import annotations

from specvlm.engine.caches.borrowed_cache import BorrowedCache
from specvlm.engine.decoder import Decoder
from specvlm.engine.drafting import Drafter
from specvlm.engine.growing import Grower, Grown
from specvlm.engine.tree import DraftTree, TreeShape
from specvlm.engine.verification import Verdict


class SelfDrafter(Drafter):
    """The target is its own draft, over a part of its own cache: SpecVLM's second setting (arXiv:2508.16201).

    There is no second model, no second prefill and no second vision pass. After a round the target's cache holds the
    true keys and values of all that was accepted, so that those of the guesses are forgotten, every one.
    """

    def __init__(
        self, target: Decoder, shape: TreeShape, cache: BorrowedCache, next_position: int, vocab_size: int
    ) -> None:
        """`next_position` is where the answer begins. No id of `vocab_size` or more is ever proposed."""
        self._grower, self._cache = Grower(target, shape, cache, vocab_size), cache
        self._root_position = next_position
        self._grown = Grown.bare(0)

    @property
    def max_nodes(self) -> int:
        return self._grower.shape.max_nodes

    @property
    def num_forwards(self) -> int:
        return self._grown.num_forwards

    def propose(self, root: int, max_depth: int) -> DraftTree:
        self._grown = self._grower.grow([root], self._root_position, max_depth) or Grown.bare(root)
        return self._grown.tree

    def accept(self, verdict: Verdict) -> None:
        self._grown.accept(verdict.path)
        self._cache.reset()
        self._root_position += len(verdict.path)
