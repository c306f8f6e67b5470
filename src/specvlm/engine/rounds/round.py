"""A round, from guess to cache, in tensors of fixed shape: a CUDA graph can replay it, and nothing asks the host.

grow     the draft reads what waits, then level after level of its own guesses      -> Tree
settle   the target reads the tree; its path is found, and what stands on it kept    -> report
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Protocol, final, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from specvlm.engine.caches.indexed_cache import IndexedCache
from specvlm.engine.rounds.checking import Settled, greedy, one_by_one
from specvlm.engine.rounds.growing import Tree, grow
from specvlm.engine.rounds.picking import Picking
from specvlm.engine.rounds.selection import Selection
from specvlm.engine.rounds.state import State


@runtime_checkable  # so that the shape checks of the tests can look at what is annotated with it
class DeviceDecoder(Protocol):
    """A language model that reads text at places which only the device knows."""

    def step_at(
        self,
        tokens: Int[Tensor, " rows"],
        positions: Int[Tensor, " rows"],
        length: Int[Tensor, " 1"],
        tail: Bool[Tensor, "rows tail"],
        cache: IndexedCache,
    ) -> Float[Tensor, "rows vocab"]:
        """Read `tokens`, whose keys and values go to the cache's slots. All rows see the first `length` places; of the
        `tail` behind them, each sees what its row says."""
        ...


@dataclass(frozen=True, eq=False)
class Side:
    """One model of a pair, and what it remembers of an answer."""

    decoder: DeviceDecoder
    cache: IndexedCache

    def read(self, tokens: Tensor, positions: Tensor, slots: Tensor, length: Tensor, tail: Tensor) -> Tensor:
        self.cache.slots = slots
        return self.decoder.step_at(tokens, positions, length, tail, self.cache)


@final
@dataclass(frozen=True, eq=False)
class DeviceRound:
    """Rounds of one envelope. No id of `vocab_size` (the target's) or more is ever proposed."""

    target: Side
    draft: Side
    selection: Selection
    state: State
    vocab_size: int
    picking: Picking | None = None
    """How the target takes a token, if not the likeliest one."""

    @property
    def target_rows(self) -> int:
        """Places behind the target's length that a round may write."""
        return 1 + max(self.selection.envelope.num_nodes, self.selection.envelope.levels)

    @property
    def draft_rows(self) -> int:
        return 2 + self.selection.envelope.num_fed

    def grow(self) -> Tree:
        """A tree behind the answer's last token. It changes nothing that the next try wouldn't write over."""
        state = self.state
        last = state.num_waiting - 1
        slots = state.draft_length + torch.arange(2, device=last.device)
        in_order = torch.ones(2, 2, dtype=torch.bool, device=last.device).tril()
        said = self.draft.read(state.waiting, slots + state.draft_offset, slots, state.draft_length, in_order)
        # Where one token waits, the second row is of nothing: the next level writes over it.
        settled = state.draft_length + state.num_waiting
        root_position = settled - 1 + state.draft_offset
        read = partial(self._read_level, settled, root_position)
        root = state.waiting.index_select(0, last)
        return grow(self.selection, root, said.index_select(0, last)[:, : self.vocab_size], read)

    def _read_level(
        self, settled: Tensor, root_position: Tensor, level: int, tokens: Tensor, lineage: Tensor
    ) -> Tensor:
        envelope = self.selection.envelope
        slots = settled + torch.arange(*envelope.fed_offsets[level - 1 : level + 1], device=settled.device)
        positions = (root_position + level).expand(len(tokens))
        # As wide at every level: what is alike is compiled once.
        tail = pad(lineage, (0, envelope.num_fed - lineage.shape[1]))
        return self.draft.read(tokens, positions, slots, settled, tail)[:, : self.vocab_size]

    def settle(self, tree: Tree) -> Int[Tensor, " report"]:
        """Verify a tree and keep what is right of it. What came of it is for `Report.read`."""
        state, levels = self.state, self.selection.envelope.levels
        slots = state.target_length + torch.arange(len(tree.tokens), device=tree.tokens.device)
        positions = state.target_length + state.target_offset + tree.depths
        logits = self.target.read(tree.tokens, positions, slots, state.target_length, tree.mask)
        if self.picking is None:
            settled = greedy(tree, logits, state.eos_ids, levels)
        else:
            settled = one_by_one(tree, logits, state.eos_ids, levels, self.picking)
        if self.picking is not None:
            self.picking.append(settled.tokens, settled.count)
        self._keep_draft(tree, settled)
        self._keep_target(settled)
        counts = [settled.count, settled.ended, state.num_waiting]
        return torch.cat([*counts, settled.tokens, settled.path, tree.tokens, tree.parents])

    def _keep_target(self, settled: Settled) -> None:
        """The root and what was accepted close up; a place behind them is copied onto itself."""
        length, order = self.state.target_length, torch.arange(len(settled.path), device=settled.path.device)
        source = torch.where(order < settled.count, settled.path, order)
        self.target.cache.move(length + source, length + order)
        length += settled.count

    def _keep_draft(self, tree: Tree, settled: Settled) -> None:
        """Of the accepted nodes, those that were fed come first; at most one wasn't, and waits with the next root."""
        state, nodes = self.state, settled.path[1:].clamp(max=len(tree.tokens) - 1)
        order = torch.arange(len(nodes), device=nodes.device)
        accepted = order < settled.count - 1
        fed = tree.fed.index_select(0, nodes)
        stays = accepted & (fed >= 0)
        num_stay = stays.sum(0, keepdim=True)
        start = state.draft_length + state.num_waiting
        if len(nodes) > 1:  # leaves of the last level are never fed
            self.draft.cache.move((start + torch.where(stays, fed, order))[:-1], (start + order)[:-1])
        state.draft_length.copy_(start + num_stay)
        last = settled.tokens.index_select(0, settled.count - 1)
        before = settled.tokens.index_select(0, (settled.count - 2).clamp(min=0))
        leaf_waits = accepted.sum(0, keepdim=True) - num_stay
        state.waiting.copy_(torch.cat([torch.where(leaf_waits > 0, before, last), last]))
        state.num_waiting.copy_(1 + leaf_waits)
