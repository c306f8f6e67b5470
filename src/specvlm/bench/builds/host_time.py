"""What a round takes beside its forwards: the host's own time, with models whose logits are there already.

To be run by `turns`, on any build since rounds were those of `engine/loop.py`.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import sys
import time
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from specvlm.engine.caches.kv_cache import TreeCache
from specvlm.engine.drafting import ModelDrafter
from specvlm.engine.loop import decode
from specvlm.engine.sampling import Chooser
from specvlm.engine.sequence import Sequence, Stopping
from specvlm.engine.tree import PAPER_TREE, DynamicTree, TreeShape, chain
from specvlm.planning.costs import Costs, PairCosts
from specvlm.planning.experience import Experience
from specvlm.planning.prices import Prices
from specvlm.planning.tree import PlannedTree

VOCABULARY = 64
"""So few that arithmetic takes no time."""

PROMPT, ROUNDS = 300, 200
AGREEMENT = 0.7
"""Of how many tokens the draft knows what the target says next."""


class Ready:
    """A decoder whose logits hang on a row's token alone; forwards cost nothing but looking them up."""

    vocab_size = VOCABULARY

    def __init__(self, following: Tensor, seed: int) -> None:
        """`following` [vocab] is what it says behind each token."""
        self._logits = torch.randn(VOCABULARY, VOCABULARY, generator=torch.Generator().manual_seed(seed))
        self._logits[torch.arange(VOCABULARY), following] += 6
        self._ready: dict[tuple[int, ...], Tensor] = {}

    def step(self, tokens: Tensor, positions: Tensor, mask: Tensor | None, cache: TreeCache, **more: Any) -> Tensor:
        rows = tuple(tokens.tolist())
        cache.layers[0].length += len(rows)
        if rows not in self._ready:
            self._ready[rows] = self._logits[tokens]
        return self._ready[rows]


@lru_cache(maxsize=1)
def pair() -> tuple[Any, Any]:
    """The target goes through all tokens in a circle, and the draft is wrong about some."""
    said = (torch.arange(VOCABULARY) * 5 + 3) % VOCABULARY  # a full period: Hull and Dobell, doi:10.1137/1004061
    knows = torch.rand(VOCABULARY, generator=torch.Generator().manual_seed(0)) < AGREEMENT
    return Ready(said, 1), Ready(torch.where(knows, said, said.roll(7)), 2)


def cache() -> TreeCache:
    made = TreeCache(1, PROMPT + 20 * ROUNDS)
    made.layers[0].update(torch.zeros(1, 1, PROMPT, 1), torch.zeros(1, 1, PROMPT, 1))
    return made


def planned(target: TreeCache, draft: TreeCache) -> TreeShape:
    seconds = {"target": (1.0, 0.01), "draft": (0.1, 0.001)}
    rows = (1, 2, 4, 8, 16, 32, 64)
    costs = {
        name: Costs.of(lambda rows, cached, one=one, more=more: one + more * rows + 1e-5 * cached, rows)
        for name, (one, more) in seconds.items()
    }
    both, experience = PairCosts(costs["target"], costs["draft"]), Experience()
    return PlannedTree(lambda: Prices.now(both, experience, target.length, draft.length), experience)


SHAPES: dict[str, TreeShape | None] = {
    "DynamicTree()": DynamicTree(),
    "DynamicTree(6, 4, 25)": DynamicTree(6, 4, 25),
    "PAPER_TREE": PAPER_TREE,
    "chain(5)": chain(5),
    "PlannedTree": None,
}


def measure(case: str) -> dict[str, Any]:
    """The median of many rounds, and a digest of their trees and of what was said."""
    (target, draft), target_cache, draft_cache = pair(), cache(), cache()
    shape = SHAPES[case] or planned(target_cache, draft_cache)
    sequence = Sequence(
        torch.zeros(PROMPT, dtype=torch.long), PROMPT, target_cache, Chooser(), Stopping(10**6, frozenset({-1}))
    )
    sequence.tokens.append(1)
    rounds = decode(target, sequence, ModelDrafter(draft, shape, draft_cache, PROMPT, VOCABULARY))
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        next(rounds)
        seconds.append(time.perf_counter() - start)
    played = [(each.tree.tokens, each.tree.parents, each.path, each.next_token) for each in sequence.stats.rounds]
    return {"seconds": statistics.median(seconds), "said": hashlib.sha256(repr(played).encode()).hexdigest()}


def main() -> None:
    torch.set_num_threads(1)
    sys.stdout.write(json.dumps(list(SHAPES)) + "\n")
    sys.stdout.flush()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(measure(line.strip())) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
