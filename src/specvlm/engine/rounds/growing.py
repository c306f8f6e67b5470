"""Growing a tree in tensors: the same tree, token for token, as the host's `Growth` makes of the same logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from specvlm.engine.rounds.selection import Chosen, Selection
from specvlm.engine.tree import likeliest

Read = Callable[[int, Int[Tensor, " width"], Bool[Tensor, "width fed"]], Float[Tensor, "width vocab"]]
"""What the draft says behind nodes of a level: (level, their tokens, which of the nodes fed so far each may see)."""


@dataclass(frozen=True, eq=False)
class Tree:
    """A draft tree of a fixed number of nodes, the root first, parents before children."""

    tokens: Int[Tensor, " nodes"]
    parents: Int[Tensor, " nodes"]
    """The root's is itself."""
    depths: Int[Tensor, " nodes"]
    mask: Bool[Tensor, "nodes nodes"]
    """True where the row's node may attend to the column's: itself and its ancestors."""
    fed: Int[Tensor, " nodes"]
    """The place of each among the nodes that the draft has read behind the root; -1: it hasn't."""


def grow(selection: Selection, root: Int[Tensor, " 1"], first: Float[Tensor, "1 vocab"], read: Read) -> Tree:
    """A tree behind `root`, of which the draft said `first`."""
    envelope, logits = selection.envelope, first
    reached = torch.zeros(1, dtype=torch.float64, device=root.device)  # in double, as the host adds
    lineage = torch.zeros(1, 0, dtype=torch.bool, device=root.device)
    tokens, values, depths, frontiers = list[Tensor](), list[Tensor](), list[Tensor](), list[Tensor]()
    for level, children in enumerate(envelope.children):
        log_probs, guesses = likeliest(logits, children)
        candidates, said = (reached[:, None] + log_probs).flatten(), guesses.flatten()
        tokens.append(said)
        values.append(candidates)
        depths.append(torch.full_like(said, level + 1))
        if level + 1 == envelope.levels:
            break
        # A guess sees the prompt, the answer, its own ancestors and itself.
        frontier = selection.frontier(level, candidates)
        itself = torch.eye(len(frontier), dtype=torch.bool, device=root.device)
        above = lineage.index_select(0, torch.div(frontier, children, rounding_mode="floor"))
        lineage = torch.cat([above, itself], dim=1)
        reached = candidates.index_select(0, frontier)
        logits = read(level + 1, said.index_select(0, frontier), lineage)
        frontiers.append(frontier)
    chosen = selection.tree(torch.cat(values), frontiers)
    return _tree(chosen, root, torch.cat(tokens), torch.cat(depths), envelope.levels)


def _tree(chosen: Chosen, root: Tensor, tokens: Tensor, depths: Tensor, levels: int) -> Tree:
    nothing = torch.zeros_like(root)
    parents = torch.cat([nothing, chosen.parents])
    mask, above = torch.eye(len(parents), dtype=torch.bool, device=root.device), parents
    for _ in range(levels):  # the root is its own parent, so that all branches end there
        mask = mask.scatter(1, above[:, None], value=True)
        above = parents.index_select(0, above)
    return Tree(
        torch.cat([root, tokens.index_select(0, chosen.candidates)]),
        parents,
        torch.cat([nothing, depths.index_select(0, chosen.candidates)]),
        mask,
        torch.cat([nothing - 1, chosen.fed]),
    )
