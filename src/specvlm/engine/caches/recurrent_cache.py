"""RecurrentCache: keys and values of some layers, states of the others; guesses are taken back in both.

What a layer of full attention read is taken back by truncation. A state stays at the last accepted token (`base`), and
goes on from there along what was accepted.

               base              length
    prompt, answer | nodes of trees |        keys and values: a row for each position
              state  inputs of each          recurrent layers: a state, and what it takes to replay
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad
from transformers.cache_utils import Cache

from specvlm.engine.caches.branches import Plan, ancestry, parents_seen
from specvlm.engine.caches.kv_cache import KVCache, TreeCache, TreeLayer
from specvlm.engine.caches.recurrent_layer import Advance, Inputs, RecurrentLayer, State

RECURRENT = "linear_attention"
"""What a transformers config calls such layers."""


class PassedByError(ValueError):
    """A model's recurrent layers didn't read what they were handed."""


@final
@dataclass(frozen=True, eq=False)
class Growing:
    """What a recurrent layer is handed in the place of its state, when it is to read a tree."""

    layer: RecurrentLayer
    plan: Plan

    def grow(self, advance: Advance, inputs: Inputs) -> Float[Tensor, "1 n ..."]:
        """Outputs of the recurrence for each of the plan's nodes."""
        return self.layer.grow(self.plan, advance, inputs)


@final
@dataclass(frozen=True, eq=False)
class Marking:
    """What a recurrent layer is handed in the place of its state, when it reads a prompt past the place of a mark."""

    layer: RecurrentLayer
    offset: int
    """So many tokens of this forward come before it."""

    @property
    def memory(self) -> Tensor | None:
        return self.layer.state.memory

    def mark(self, memory: Tensor) -> None:
        """Tell the layer what its memory is behind the first `offset` tokens."""
        self.layer.marked = State(self.layer.marked.window, memory)


class View(KVCache):
    """A cache as one forward sees it. Keys and values are the cache's own."""

    def __init__(self, cache: RecurrentCache) -> None:
        layers: list[Any] = list(cache.layers)
        super().__init__(layers=layers)
        self._cache = cache

    @property
    def length(self) -> int:
        return self._cache.length

    def truncate(self, length: int) -> None:
        self._cache.truncate(length)


@final
class PromptView(View):
    """For a part of a prompt with a mark in it. What is computed is the same: the mark's states are made besides."""

    def __init__(self, cache: RecurrentCache, offset: int) -> None:
        super().__init__(cache)
        self._offset = offset

    def get_conv_state(self, layer_idx: int, state_idx: int = 0) -> Tensor | None:
        return self._cache.get_conv_state(layer_idx)

    def update_conv_state(self, conv_states: Tensor, layer_idx: int, state_idx: int = 0, **kwargs: Any) -> Tensor:
        layer, width = self._cache.recurrent_layer(layer_idx), kwargs["conv_kernel_size"]
        whole = layer.update_conv_state(conv_states, **kwargs)
        before = whole[..., : whole.shape[-1] - conv_states.shape[-1] + self._offset][..., -width:]
        layer.marked = State(pad(before, (width - before.shape[-1], 0)))
        return whole

    def get_recurrent_state(self, layer_idx: int, state_idx: int = 0) -> Any:
        return Marking(self._cache.recurrent_layer(layer_idx), self._offset)


@final
class TreeView(View):
    """For nodes of a tree."""

    def __init__(self, cache: RecurrentCache, plan: Plan) -> None:
        super().__init__(cache)
        self._plan = plan

    def is_recording_past(self, layer_idx: int) -> bool:
        """Yes: so that one node is read in the way of many."""
        return True

    def get_conv_state(self, layer_idx: int, state_idx: int = 0) -> None:
        """Each node has its own, which `update_conv_state` returns."""

    def update_conv_state(self, conv_states: Tensor, layer_idx: int, state_idx: int = 0, **kwargs: Any) -> Tensor:
        layer = self._cache.recurrent_layer(layer_idx)
        return layer.windows(conv_states, self._plan, kwargs["conv_kernel_size"])

    def get_recurrent_state(self, layer_idx: int, state_idx: int = 0) -> Any:
        return Growing(self._cache.recurrent_layer(layer_idx), self._plan)

    def update_recurrent_state(self, recurrent_states: Any, layer_idx: int, state_idx: int = 0, **kwargs: Any) -> Any:
        """There is nothing to write: the state stays where it is."""
        return recurrent_states


@final
class RecurrentCache(TreeCache):
    """The memory of one sequence in a model some of whose layers are recurrent.

    Positions behind `base` hang from the kept state as a tree. Before it there is at most one position that can be gone
    back to, a mark, so that `truncate` may forget more than it was asked to: ask for `length` afterwards.
    """

    def __init__(self, layer_types: Sequence[str], capacity: int) -> None:
        """Errors: ValueError if there is no layer of attention: nothing would count positions."""
        if all(kind == RECURRENT for kind in layer_types):
            raise ValueError("a model whose layers are all recurrent keeps no positions")
        layers: list[Any] = [RecurrentLayer() if kind == RECURRENT else TreeLayer(capacity) for kind in layer_types]
        Cache.__init__(self, layers=layers)
        self._attention = [layer for layer in layers if isinstance(layer, TreeLayer)]
        self._recurrent = [layer for layer in layers if isinstance(layer, RecurrentLayer)]
        self._base = 0
        self._parents: tuple[int, ...] = ()
        self._tips: tuple[int, ...] = ()
        self._wanted = self._mark = 0

    @property
    def attention(self) -> list[TreeLayer]:
        return self._attention

    @property
    def base(self) -> int:
        """Positions that the kept states have folded in."""
        return self._base

    @property
    def nbytes(self) -> int:
        """Bytes allocated: keys and values, in use or not, and what is held of states."""
        return super().nbytes + self.state_bytes

    @property
    def state_bytes(self) -> int:
        """Bytes held for the recurrent layers: their kept states, and what a tree behind them takes."""
        return sum(layer.nbytes for layer in self._recurrent)

    def recurrent_layer(self, layer_idx: int) -> RecurrentLayer:
        """Errors: ValueError for a layer of another kind."""
        layer: Any = self.layers[layer_idx]
        if not isinstance(layer, RecurrentLayer):
            raise ValueError(f"layer {layer_idx} has no state: it is a {type(layer).__name__}")
        return layer

    @contextmanager
    def read_text(self, count: int, mask: Bool[Tensor, "count last"] | None, device: torch.device) -> Iterator[KVCache]:
        before = self.length
        parents = parents_seen(self._parents, count, mask)
        plan = Plan.of(parents, len(self._parents), self._tips, device)
        try:
            yield TreeView(self, plan)
            if any(layer.num_nodes != len(parents) for layer in self._recurrent):
                raise PassedByError("recurrent layers have read other tokens than those that they were given")
        except BaseException:
            self._forget_nodes(before)
            raise
        self._parents, self._tips = parents, plan.tips

    @contextmanager
    def read_prompt(self, count: int) -> Iterator[KVCache]:
        nodes = range(len(self._parents))
        self._require_branch(nodes)
        self._fold(nodes)
        before, states, offset = self._base, [layer.state for layer in self._recurrent], self._wanted - self._base
        if 0 < offset <= count:
            self._mark = 0  # until all layers have theirs
        try:
            yield PromptView(self, offset) if 0 < offset < count else self
        except BaseException:
            self._go_back(before, states)
            raise
        self._base = before + count
        if offset == count:
            for layer in self._recurrent:
                layer.marked = layer.state
        if 0 < offset <= count:
            self._mark = self._wanted

    def mark(self, position: int) -> None:
        self._wanted = position

    @property
    def marked(self) -> int:
        """Where a mark was made; 0 if nowhere."""
        return self._mark

    def get_conv_state(self, layer_idx: int, state_idx: int = 0) -> Tensor | None:
        return self.recurrent_layer(layer_idx).begin()

    def get_recurrent_state(self, layer_idx: int, state_idx: int = 0) -> Tensor | None:
        return self.recurrent_layer(layer_idx).state.memory

    def truncate(self, length: int) -> None:
        if length >= self.length:
            return
        if length >= self._base:
            self._forget_nodes(length)
        elif self._mark and self._mark <= length:
            self._go_back(self._mark, [layer.marked for layer in self._recurrent])
        else:
            self.reset()

    def pretend(self, length: int) -> None:
        super().pretend(length)
        self._base = length

    def keep(self, path: Sequence[int], num_nodes: int) -> None:
        """As any TreeCache. Errors: ValueError also for a path that is no branch of the tree."""
        self.require_path(path, num_nodes)
        behind = len(self._parents) - num_nodes
        if behind < 0:
            raise ValueError(f"can't choose among the last {num_nodes} positions: {-behind} of them were folded")
        nodes = [*range(behind), *(behind + node for node in path)]
        self._require_branch(nodes)
        super().keep(path, num_nodes)
        self._fold(nodes)

    def _require_branch(self, nodes: Sequence[int]) -> None:
        if list(nodes) != ancestry(self._parents, nodes[-1] if nodes else -1):
            raise ValueError(f"{list(nodes)} is no branch of a tree with the parents {list(self._parents)}")

    @torch.no_grad()
    def _fold(self, nodes: Sequence[int]) -> None:
        """Go on from the last of `nodes`, a branch."""
        last = nodes[-1] if nodes else -1
        for layer in self._recurrent:
            layer.fold(self._parents, last, self._tips)
        self._base, self._parents, self._tips = self._base + len(nodes), (), ()

    def _forget_nodes(self, length: int) -> None:
        """All behind the first `length` positions."""
        super().truncate(length)
        self._parents, self._tips = self._parents[: length - self._base], ()
        for layer in self._recurrent:
            layer.cut(len(self._parents))

    def _go_back(self, base: int, states: Sequence[State]) -> None:
        super().truncate(base)
        self._base, self._parents, self._tips = base, (), ()
        for layer, state in zip(self._recurrent, states, strict=True):
            layer.cut(0)
            layer.state = state

    def extend(self, other: TreeCache, length: int) -> None:
        """As any TreeCache, but up to the other's mark, or not at all: further on its states know of what isn't shared.

        Errors: ValueError unless this cache is empty, and of the same kind.
        """
        if not isinstance(other, RecurrentCache) or self.length:
            raise ValueError("a cache with states can begin as another one did, and not go on with its positions")
        mark = other.marked
        if not 0 < mark <= length:
            return
        for mine, theirs in zip(self._attention, other.attention, strict=True):
            mine.update(theirs.keys[:, :, :mark], theirs.values[:, :, :mark])
        for layer, theirs in zip(self._recurrent, other._recurrent, strict=True):
            layer.state = layer.marked = theirs.marked
        self._base = self._mark = mark

    def reset(self) -> None:
        self._go_back(0, [State()] * len(self._recurrent))
        self._mark = 0
        for layer in self._recurrent:
            layer.reset()
