"""How long it takes to read a chain or a tree of guesses, to go on from the accepted ones, and to propose them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import final

import torch

from specvlm.bench.steps import our_cache, stock_cache, stock_step
from specvlm.engine.caches.recurrent_cache import RecurrentCache
from specvlm.engine.drafting import ModelDrafter
from specvlm.engine.tree import PAPER_TREE, DraftTree, TreeTemplate
from specvlm.engine.verification import Verdict
from specvlm.families import Family

TREES: dict[str, TreeTemplate | None] = {
    "one row": None,
    "chain of 8": TreeTemplate.from_paths([(0,) * depth for depth in range(1, 8)]),
    "tree of 8": TreeTemplate.from_paths([(0,), (1,), (0, 0), (0, 1), (1, 0), (0, 0, 0), (0, 0, 0, 0)]),
    "chain of 26": TreeTemplate.from_paths([(0,) * depth for depth in range(1, 26)]),
    "paper's tree of 26": PAPER_TREE,
}
"""Guesses behind their root, which counts."""

KEPT = {"one row": 1, "chain of 8": 1, "tree of 8": 1, "chain of 26": 4, "paper's tree of 26": 4}
"""Tokens of a tree that are kept, the root included: a state is replayed over so many, whatever the tree was."""


@final
@dataclass(frozen=True)
class Costs:
    """Seconds of each repeat."""

    stock: list[float] = field(default_factory=list)
    """Stock transformers' one row."""
    read: dict[str, list[float]] = field(default_factory=dict)
    """Of our forward over all rows of a tree."""
    keep: dict[str, list[float]] = field(default_factory=dict)
    """To go on from so many accepted tokens; none of them is at a tree's end, whose states are at hand."""
    propose: dict[str, list[float]] = field(default_factory=dict)
    """All forwards in which a draft grows a tree."""
    state_bytes: dict[str, int] = field(default_factory=dict)
    """Of states, and of what it takes to replay them behind a tree that was read."""


@torch.inference_mode()
def measure(family: Family, cached: int, *, drafts: bool = False, repeats: int = 5) -> Costs:
    """Behind a context of noise. All comes in turns, behind one that warms up.

    Errors: TypeError for a model that folds nothing.
    """
    cache, found = our_cache(family, cached, 64), Costs()
    if not isinstance(cache, RecurrentCache):
        raise TypeError(f"{family.name} folds nothing: its steps are measured by specvlm.bench.steps")
    stock = stock_cache(family, cached)
    for turn in range(repeats + 1):
        with _timing(found.stock, turn):
            stock_step(family, stock, cached)
        for name, template in TREES.items():
            tree = _tree(template)
            with _timing(found.read.setdefault(name, []), turn):
                _step(family, cache, cached, tree)
            found.state_bytes[name] = cache.state_bytes
            path = deepest_branch(name)[: KEPT[name]]
            times = found.keep.setdefault(str(len(path)), []) if len(path) < len(tree) else []
            with _timing(times, turn):
                cache.keep(path, len(tree))
            cache.pretend(cached)
            if drafts and template is not None:
                _propose(family, cache, cached, template, found.propose.setdefault(name, []), turn)
    return found


@contextmanager
def _timing(times: list[float], turn: int) -> Iterator[None]:
    start = time.perf_counter()
    yield
    if turn:
        times.append(time.perf_counter() - start)


def _step(family: Family, cache: RecurrentCache, cached: int, tree: DraftTree) -> None:
    positions = cached + torch.tensor([tree.depths])
    family.decoder.step(torch.tensor(tree.tokens), positions, tree.mask if len(tree) > 1 else None, cache)


def _propose(
    family: Family, cache: RecurrentCache, cached: int, template: TreeTemplate, times: list[float], turn: int
) -> None:
    """As in a round; of its guesses none is right."""
    drafter = ModelDrafter(family.decoder, template, cache, cached, family.decoder.vocab_size)
    with _timing(times, turn):
        drafter.propose(7, max(_tree(template).depths))
    drafter.accept(Verdict((0,), 8))
    cache.pretend(cached)


def _tree(template: TreeTemplate | None) -> DraftTree:
    parents = (-1,) if template is None else template.parents
    return DraftTree(tuple(range(7, 7 + len(parents))), parents)


def deepest_branch(name: str) -> tuple[int, ...]:
    """The nodes of the branch that goes deepest in one of TREES, the root first."""
    tree = _tree(TREES[name])
    node, path = max(range(len(tree)), key=lambda each: (tree.depths[each], -each)), []
    while node >= 0:
        path.append(node)
        node = tree.parents[node]
    return tuple(path[::-1])
