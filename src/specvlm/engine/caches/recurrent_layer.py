"""RecurrentLayer: what a linear-attention layer remembers, at the last accepted token and along a tree behind it.

Such a layer folds every token into a state of fixed size, out of which nothing can be taken. So the state stays at the
last accepted token, and of each guess is held what the recurrence reads of it: thousands of numbers where the state has
half a million. The states of guesses live for the length of a forward, but for those of its last level, from where a
tree may grow on. What is accepted is then replayed from the kept state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad
from transformers.cache_utils import LinearAttentionCacheLayerMixin

from specvlm.engine.caches.branches import Plan, ancestry, line
from specvlm.engine.literals import longs

Inputs = tuple[Tensor, ...]
"""What a recurrence reads: queries first, keys, values and whatever gates them, each `[batch, tokens, ...]`."""

Advance = Callable[[Inputs, Tensor | None], tuple[Tensor, Tensor]]
"""The recurrence: inputs and the states before them (None: nothing was read) to outputs `[batch, tokens, ...]` and the
states `[batch, ...]` behind the last token."""


@final
@dataclass(frozen=True, eq=False)
class State:
    """What was folded. Never written to: a new one takes its place, so that an old one can be kept for nothing."""

    window: Float[Tensor, "1 channels width"] | None = None
    """The last inputs of the convolution; None before the first token."""
    memory: Tensor | None = None
    """`[1, ...]`."""

    @property
    def nbytes(self) -> int:
        return sum(held.nbytes for held in (self.window, self.memory) if held is not None)


@final
@dataclass(frozen=True, eq=False)
class Nodes:
    """What is held of the nodes behind a state, in their order, and of the last level their states."""

    columns: Float[Tensor, "1 channels nodes"]
    inputs: Inputs
    """Without the queries: nothing is asked of a state that is replayed."""
    advance: Advance
    tips: Tensor | None

    @property
    def nbytes(self) -> int:
        tips = 0 if self.tips is None else self.tips.nbytes
        return tips + sum(held.nbytes for held in (self.columns, *self.inputs))

    def first(self, count: int) -> Nodes:
        inputs = tuple(each[:, :count].clone() for each in self.inputs)
        return Nodes(self.columns[..., :count].clone(), inputs, self.advance, None)


class RecurrentLayer(LinearAttentionCacheLayerMixin):
    """One layer. While a prompt is read it does what transformers' own does."""

    is_sliding = False

    def __init__(self) -> None:
        super().__init__()
        self.state = State()
        self.marked = State()
        """As it was where the cache was told to make a mark."""
        self._nodes: Nodes | None = None
        self._columns: Tensor | None = None
        """Of the nodes, those that are being read included."""
        self._window: Tensor | None = None
        """Behind the part of a prompt that is being read."""

    @property
    def num_nodes(self) -> int:
        """How many nodes are held, as far as the recurrence has read them."""
        return 0 if self._nodes is None else self._nodes.columns.shape[-1]

    @property
    def nbytes(self) -> int:
        """Bytes held: the kept state, one that was marked, and what is held of the nodes behind."""
        marked = 0 if self.marked.memory is self.state.memory else self.marked.nbytes
        return self.state.nbytes + marked + (0 if self._nodes is None else self._nodes.nbytes)

    # What stock layers call while they read a prompt.

    def lazy_initialization(self, *args: Any, **kwargs: Any) -> None:
        """There is nothing to allocate: states are taken as they come."""

    def begin(self) -> Float[Tensor, "1 channels width"] | None:
        """The inputs of the convolution before this forward, which a layer may write to; None at the beginning."""
        window = self.state.window
        self._window = None if window is None else window.clone()
        return self._window

    def update_conv_state(
        self, conv_states: Float[Tensor, "1 channels new"], state_idx: int = 0, *, conv_kernel_size: int, **kwargs: Any
    ) -> Float[Tensor, "1 channels more"]:
        """All that the convolution has to see, as transformers' own layer returns it."""
        if self._window is None:
            missing = conv_kernel_size - conv_states.shape[-1]
            whole = pad(conv_states, (missing, 0)) if missing > 0 else conv_states
        else:
            whole = torch.cat([self._window, conv_states], dim=-1)
        self._window = whole[..., -conv_kernel_size:].clone()
        return whole

    def update_recurrent_state(self, recurrent_states: Tensor, state_idx: int = 0, **kwargs: Any) -> Tensor:
        self.state, self._window = State(self._window, recurrent_states), None
        return recurrent_states

    # What a forward over a tree asks for.

    def windows(self, new: Float[Tensor, "1 channels n"], plan: Plan, width: int) -> Float[Tensor, "n channels wide"]:
        """Note the inputs of the convolution for `n` nodes; for each, what the convolution has to see: `width` of its
        branch, and its own."""
        window = self.state.window
        if window is None:
            window = new.new_zeros(*new.shape[:2], width)
            self.state = State(window, self.state.memory)
        self._columns = new if self._nodes is None else torch.cat([self._nodes.columns, new], dim=-1)
        whole = torch.cat([window, self._columns], dim=-1)[0]
        return whole[:, plan.windows(width).to(whole.device)].transpose(0, 1)

    def grow(self, plan: Plan, advance: Advance, inputs: Inputs) -> Float[Tensor, "1 n ..."]:
        """Read `n` nodes level by level, each from its parent's state. Returns what the recurrence says of each.

        Errors: ValueError if the convolution didn't come before.
        """
        if self._columns is None:
            raise ValueError("a recurrent layer asked for its recurrence and not for its convolution")
        states, outputs = self._roots(plan), []
        for level in plan.levels:
            rows = level.rows.to(inputs[0].device)
            alone = tuple(each[0].index_select(0, rows)[:, None] for each in inputs)
            output, states = advance(alone, level.inherit(states))
            outputs.append(output)
        if self._nodes is None:
            held = tuple(each.clone() for each in inputs[1:])  # of views: the queries would be held too
        else:
            held = tuple(torch.cat(both, dim=1) for both in zip(self._nodes.inputs, inputs[1:], strict=True))
        self._nodes, self._columns = Nodes(self._columns, held, advance, states), None
        together = torch.cat(outputs)[:, 0]
        return (together if plan.order is None else together.index_select(0, plan.order.to(together.device)))[None]

    def _roots(self, plan: Plan) -> Tensor | None:
        """States of the plan's roots."""
        found = [self._state(plan.parents, node, plan.tips_before) for node in plan.roots]
        if len(found) == 1:
            return found[0]
        like = next(state for state in found if state is not None)  # at most one root is where nothing was read
        return torch.cat([torch.zeros_like(like) if state is None else state for state in found])

    def _state(self, parents: Sequence[int], node: int, tips: Sequence[int]) -> Tensor | None:
        """`[1, ...]` behind a node: at hand if it is on the level that was read last, else replayed."""
        nodes = self._nodes
        if node < 0 or nodes is None:
            return self.state.memory
        if node in tips and nodes.tips is not None:
            return nodes.tips.narrow(0, tips.index(node), 1)
        index = longs(ancestry(parents, node)).to(nodes.columns.device)
        keys, *more = (each.index_select(1, index) for each in nodes.inputs)
        return nodes.advance((keys, keys, *more), self.state.memory)[1]

    # What becomes of the tree.

    def fold(self, parents: Sequence[int], node: int, tips: Sequence[int]) -> None:
        """Go on from `node`, -1 for where the state is kept, and forget all others."""
        window, nodes = self.state.window, self._nodes
        if node >= 0 and window is not None and nodes is not None:
            width, memory = window.shape[-1], self._state(parents, node, tips)
            if len(tips) > 1 and memory is not None:
                memory = memory.clone()  # of a view: the other tips would be held too
            places = longs([width + each for each in line(parents, node, width)][::-1]).to(window.device)
            self.state = State(torch.cat([window, nodes.columns], dim=-1).index_select(2, places), memory)
        self.cut(0)

    def cut(self, count: int) -> None:
        """Forget all nodes but the first `count`, and the states of the last level."""
        self._nodes = self._nodes.first(count) if count and self._nodes is not None else None
        self._columns = None

    def reset(self) -> None:
        self.state = self.marked = State()
        self.cut(0)
