"""Selections: which candidates the draft reads next, and which are verified. They fill an envelope."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specvlm.engine.rounds.envelope import Envelope
from specvlm.engine.tree import DynamicTree, TreeShape, TreeTemplate


@dataclass(frozen=True, eq=False)
class Chosen:
    """The nodes of a tree behind its root, by the numbers of their candidates."""

    candidates: Int[Tensor, " nodes"]
    parents: Int[Tensor, " nodes"]
    """The node that each hangs from; 0 is the root, and the first of `candidates` is node 1."""
    fed: Int[Tensor, " nodes"]
    """The place of each among the nodes that the draft has read behind the root; -1: it hasn't."""


class Selection(abc.ABC):
    """Decides by tensors alone. `values` are the candidates' cumulative log-probabilities."""

    envelope: Envelope

    @abc.abstractmethod
    def frontier(self, level: int, values: Float[Tensor, " new"]) -> Int[Tensor, " width"]:
        """Of the candidates of `level`, counted from its first, those that the draft reads at the next one."""

    @abc.abstractmethod
    def tree(self, values: Float[Tensor, " candidates"], frontiers: Sequence[Int[Tensor, " _"]]) -> Chosen:
        """The nodes to verify. `frontiers` are what `frontier` said, from level 0 on."""


def likeliest_first(values: Float[Tensor, " n"], count: int) -> Int[Tensor, " count"]:
    """The `count` highest, in ascending order of their numbers; among equals the older, so that a parent is never left
    out before its child. (`topk` promises nothing among equals.)"""
    return values.sort(descending=True, stable=True).indices[:count].sort().values


@final
class Likeliest(Selection):
    """Where the draft is confident: the contents of a `DynamicTree`."""

    def __init__(self, shape: DynamicTree, vocab_size: int, device: torch.device) -> None:
        children = min(shape.width, vocab_size)
        widths = [1]
        while len(widths) < shape.depth:
            widths.append(min(shape.width, widths[-1] * children))
        total = sum(widths) * children
        self.envelope = Envelope(tuple(widths), (children,) * shape.depth, min(shape.num_nodes, total))
        # The node's parent, among the candidates: which of the last frontier it hangs from.
        self._rows = torch.arange(total, device=device) // children
        self._numbers = torch.arange(1, 1 + self.envelope.num_nodes, device=device)

    def frontier(self, level: int, values: Float[Tensor, " new"]) -> Int[Tensor, " width"]:
        return likeliest_first(values, self.envelope.widths[level + 1])

    def tree(self, values: Float[Tensor, " candidates"], frontiers: Sequence[Int[Tensor, " _"]]) -> Chosen:
        envelope, chosen = self.envelope, likeliest_first(values, self.envelope.num_nodes)
        # Row 0 is the root; behind it stand the fed candidates in order. `_rows` counts in just that order.
        of_fed = [offset + each for offset, each in zip(envelope.offsets, frontiers, strict=False)]
        fed_candidates = torch.cat(of_fed) if of_fed else chosen[:0]
        fed = torch.full_like(values, -1, dtype=torch.long)
        fed.scatter_(0, fed_candidates, self._rows.new_ones(()).expand(len(fed_candidates)).cumsum(0) - 1)
        number = torch.zeros_like(fed).scatter_(0, chosen, self._numbers)
        of_row = torch.cat([number[:1] * 0, number.index_select(0, fed_candidates)])
        parents = of_row.index_select(0, self._rows.index_select(0, chosen))
        return Chosen(chosen, parents, fed.index_select(0, chosen))


@final
class Fixed(Selection):
    """A template's nodes, whatever the draft thinks of them."""

    def __init__(self, template: TreeTemplate, vocab_size: int, device: torch.device) -> None:
        depths = [0]
        for parent in template.parents[1:]:
            depths.append(depths[parent] + 1)
        inner = [sorted({p for p in template.parents[1:] if depths[p] == level}) for level in range(max(depths))]
        # A rank beyond the vocabulary has no token: the last one is repeated. Such a node is a duplicate, never a lie.
        ranks = [min(rank, vocab_size - 1) for rank in template.ranks]
        children = [
            1 + max(ranks[node] for node, parent in enumerate(template.parents) if node and parent in nodes)
            for nodes in map(set, inner)
        ]
        self.envelope = Envelope(tuple(map(len, inner)), tuple(children), len(template.parents) - 1)

        def place(node: int) -> int:
            """Among the candidates of its level."""
            level = depths[node] - 1
            return inner[level].index(template.parents[node]) * children[level] + ranks[node]

        fed = [node for nodes in inner[1:] for node in nodes]
        nodes, offsets = range(1, len(template.parents)), self.envelope.offsets
        self._frontiers = [torch.tensor([place(node) for node in nodes], device=device) for nodes in inner[1:]]
        self._chosen = Chosen(
            torch.tensor([offsets[depths[node] - 1] + place(node) for node in nodes], device=device),
            torch.tensor(template.parents[1:], device=device),
            torch.tensor([fed.index(node) if node in fed else -1 for node in nodes], device=device),
        )

    def frontier(self, level: int, values: Float[Tensor, " new"]) -> Int[Tensor, " width"]:
        return self._frontiers[level]

    def tree(self, values: Float[Tensor, " candidates"], frontiers: Sequence[Int[Tensor, " _"]]) -> Chosen:
        return self._chosen


def selection(shape: TreeShape, vocab_size: int, device: torch.device) -> Selection | None:
    """What grows trees of this shape, token for token, as its own `Growth` does; None for one that asks the host."""
    if isinstance(shape, DynamicTree):
        return Likeliest(shape, vocab_size, device)
    return Fixed(shape, vocab_size, device) if isinstance(shape, TreeTemplate) else None
