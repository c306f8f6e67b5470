"""Torch's global dice, kept from code that stock `generate` would not run: what guesses may be a stranger's.

A stranger is a pruner, a tree or a layer of the draft that isn't ours or a known library's. What is ours never draws
from the global generators, so they are left alone then: other threads may be drawing from them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import final

import torch

from specvlm.answering.pair import Pair
from specvlm.engine.drafting import Drafter
from specvlm.engine.tree import DraftTree
from specvlm.engine.verification import Verdict
from specvlm.families.checks.strangers import may_draw

Aside = Callable[[], AbstractContextManager[None]]
"""Around what a stranger may do: afterwards the global generators are as they were."""


def aside(pair: Pair, *others: object) -> Aside:
    """For what the models of a pair do beside answering, and `others`: pruners, shapes of trees. Without a stranger
    among them nothing is done."""
    if not any(map(_is_strange, others)) and not any(map(may_draw, pair.models)):
        return nullcontext
    gpus = [device for device in pair.devices if device.type == "cuda"]
    return lambda: torch.random.fork_rng(gpus)


def _is_strange(part: object) -> bool:
    return type(part).__module__.partition(".")[0] != "specvlm"


@final
class AsideDrafter(Drafter):
    """Another drafter, which leaves the dice as they lie."""

    def __init__(self, drafter: Drafter, aside: Aside) -> None:
        self._drafter, self._aside = drafter, aside

    @property
    def max_nodes(self) -> int:
        return self._drafter.max_nodes

    @property
    def num_forwards(self) -> int:
        return self._drafter.num_forwards

    def propose(self, root: int, max_depth: int) -> DraftTree:
        with self._aside():
            return self._drafter.propose(root, max_depth)

    def accept(self, verdict: Verdict) -> None:
        with self._aside():  # a tree may learn from it
            self._drafter.accept(verdict)
