"""Checking a tree in tensors: the same path, and the same tokens, as the host's `verify` finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specvlm.engine.rounds.growing import Tree

Pick = Callable[[Float[Tensor, "1 vocab"], Int[Tensor, " said"]], Int[Tensor, " 1"]]
"""The target's token: (logits after the last token, the tokens that this round has said)."""


@dataclass(frozen=True, eq=False)
class Settled:
    """What one round emits, in tensors for the longest branch. Beyond `count`, places hold whatever they hold."""

    path: Int[Tensor, " longest"]
    """The accepted nodes, root first."""
    tokens: Int[Tensor, " longest"]
    """What the target says after each of them; all but the last are the next node's own."""
    count: Int[Tensor, " 1"]
    """Tokens emitted, one for each node of the path."""
    ended: Int[Tensor, " 1"]
    """1 if the last one ends the answer, else 0."""


def greedy(tree: Tree, logits: Float[Tensor, "nodes vocab"], eos_ids: Int[Tensor, " eos"], levels: int) -> Settled:
    """The target takes its likeliest token after every node, so that all of them are looked up at once."""
    choices = logits.float().argmax(-1)
    right = tree.tokens == choices.index_select(0, tree.parents)
    nowhere = len(tree.tokens)
    children = _children(tree, right)
    path = [torch.zeros_like(tree.parents[:1])]
    for _ in range(levels):
        path.append(children.index_select(0, path[-1]))
    nodes = torch.cat(path)
    tokens = torch.cat([choices, choices[:1]]).index_select(0, nodes)
    return _settled(nodes, tokens, nodes < nowhere, eos_ids)


def one_by_one(
    tree: Tree, logits: Float[Tensor, "nodes vocab"], eos_ids: Int[Tensor, " eos"], levels: int, pick: Pick
) -> Settled:
    """`pick` is asked along the path, once more than there are `levels`: beyond the path's end, what it says is of no
    account, and what it drew has to be put back by whoever holds the dice."""
    nowhere = len(tree.tokens)
    at, path, tokens = torch.zeros_like(tree.parents[:1]), list[Tensor](), list[Tensor]()
    for _ in range(levels + 1):
        path.append(at)
        row = at.clamp(max=nowhere - 1)
        tokens.append(pick(logits.index_select(0, row), torch.cat(tokens) if tokens else at[:0]))
        children = _children(tree, (tree.parents == row) & (tree.tokens == tokens[-1]))
        at = children.index_select(0, at)
    nodes = torch.cat(path)
    return _settled(nodes, torch.cat(tokens), nodes < nowhere, eos_ids)


def _children(tree: Tree, right: Tensor) -> Int[Tensor, " nodes_and_nowhere"]:
    """For each node its child among those that are `right`, or the number of all nodes: that is nowhere, and stays so.

    Of two that say the same (a template may have such) the later one, as the host's dict has it.
    """
    nowhere = len(tree.tokens)
    numbers = torch.arange(nowhere, device=right.device)
    # The root is its own parent, and nobody's child.
    found = torch.where(right & (numbers > 0), numbers, -1)
    best = torch.full((nowhere + 1,), -1, dtype=torch.long, device=right.device)
    best = best.scatter_reduce(0, tree.parents, found, "amax")
    return torch.where(best < 0, nowhere, best)


def _settled(nodes: Tensor, tokens: Tensor, on_path: Tensor, eos_ids: Tensor) -> Settled:
    ends = (tokens[:, None] == eos_ids).any(1) & on_path
    # Nothing is said behind a token that ends the answer.
    behind = torch.cat([ends[:1] & False, ends[:-1]]).cumsum(0) > 0
    said = on_path & ~behind
    return Settled(nodes, tokens, said.sum(0, keepdim=True), (ends & said).any(0, keepdim=True).long())
