"""Trees for the engine tests: all small ones, drawn ones, and slow definitions of what a tree means."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import torch
from hypothesis import strategies as st
from torch import Tensor

from specvlm.engine.tree import PAPER_TREE, DraftTree, DynamicTree, TreeShape, TreeTemplate
from specvlm.engine.verification import Verdict

Path = tuple[int, ...]


def all_parents(num_nodes: int) -> list[tuple[int, ...]]:
    """Every way to hang `num_nodes` nodes under each other, parents before children."""
    return [(-1, *rest) for rest in product(*(range(node) for node in range(1, num_nodes)))]


def all_trees(max_nodes: int, vocabulary: int) -> Iterator[DraftTree]:
    """Every tree of up to `max_nodes` nodes over the tokens 0..vocabulary-1, twins among siblings included."""
    for num_nodes in range(1, max_nodes + 1):
        for parents in all_parents(num_nodes):
            for tokens in product(range(vocabulary), repeat=num_nodes - 1):
                yield DraftTree((vocabulary, *tokens), parents)


def branch(parents: tuple[int, ...], node: int) -> Path:
    """The nodes from below the root down to `node`."""
    return () if node <= 0 else (*branch(parents, parents[node]), node)


def words(tree: DraftTree, node: int) -> Path:
    """The tokens from below the root down to `node`."""
    return tuple(tree.tokens[step] for step in branch(tree.parents, node))


def emitted(tree: DraftTree, verdict: Verdict) -> Path:
    """The tokens that a verdict settles: those of its path below the root, and the target's own after them."""
    return (*(tree.tokens[node] for node in verdict.path[1:]), verdict.next_token)


@dataclass(frozen=True)
class Grown:
    """A finished tree, the words of all nodes made on the way, and of those that were fed, forward by forward."""

    tree: DraftTree
    numbers: list[int]
    made: list[Path]
    fed: list[list[Path]]


def grow(shape: TreeShape, root: int, max_depth: int, logits_after: Callable[[Path], Tensor]) -> Grown:
    """Grow a tree where the logits after each node are a function of the words that lead to it."""
    growth = shape.sprout(root, max_depth)
    if growth is None:
        return Grown(DraftTree((root,), (-1,)), [0], [()], [])
    frontier, fed = [0], []
    while frontier:
        paths = [_words_while_growing(growth, node) for node in frontier]
        fed.append(paths)
        frontier = growth.extend(torch.stack([logits_after(path) for path in paths]))
    tree, numbers = growth.finish()
    return Grown(tree, numbers, [_words_while_growing(growth, node) for node in range(len(growth.tokens))], fed)


def _words_while_growing(growth, node: int) -> Path:
    return tuple(growth.tokens[step] for step in branch(tuple(growth.parents), node))


@st.composite
def path_lists(draw: st.DrawFn, max_rank: int = 4) -> list[Path]:
    """Up to 8 paths of ranks, each one step longer than one drawn before it."""
    paths: list[Path] = [()]
    for _ in range(draw(st.integers(1, 8))):
        paths.append((*draw(st.sampled_from(paths)), draw(st.integers(0, max_rank))))
    return paths[1:]


dynamic_trees = st.fixed_dictionaries(
    {"depth": st.integers(1, 4), "width": st.integers(1, 4), "num_nodes": st.integers(1, 10)}
)
shape_options = st.one_of(path_lists(), dynamic_trees, st.just(PAPER_TREE))
"""What `shape` makes a TreeShape of: made in the test, since beartype rolls dice and a strategy may not."""


def shape(options: list[Path] | dict[str, int] | TreeTemplate) -> TreeShape:
    if isinstance(options, dict):
        return DynamicTree(**options)
    return options if isinstance(options, TreeTemplate) else TreeTemplate.from_paths(options)
