"""SelfDrafter: the target guesses for itself, from a cache that leaves most of the video out."""

from __future__ import annotations

from specvlm.engine.borrowed_cache import BorrowedCache
from specvlm.engine.decoder import Decoder
from specvlm.engine.drafting import Drafter
from specvlm.engine.growing import Grower
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

    @property
    def max_nodes(self) -> int:
        return self._grower.shape.max_nodes

    def propose(self, root: int, max_depth: int) -> DraftTree:
        if max_depth < 1:  # this round emits the answer's last token, and no guess could be used
            return DraftTree((root,), (-1,))
        return self._grower.grow([root], self._root_position, max_depth).tree

    def accept(self, verdict: Verdict) -> None:
        self._cache.reset()
        self._root_position += len(verdict.path)
