"""Captured rounds: the two halves of a DeviceRound as a graph each, which a GPU replays without being told again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, final

import torch
from jaxtyping import Int
from torch import Tensor

from specvlm.engine.rounds.growing import Tree
from specvlm.engine.rounds.report import Report
from specvlm.engine.rounds.round import DeviceRound

Output = TypeVar("Output")


Capture = Callable[[Callable[[], Any]], Callable[[], Any]]
"""Makes of a function over tensors that stay where they are another one, which does the same once more, into the very
tensors that the function returned."""


def cuda_graph(function: Callable[[], Output]) -> Callable[[], Output]:
    """By a CUDA graph. Nothing is computed while it is captured: `function` must have run before, so that all that it
    loads and sets up is there."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = function()

    def replay() -> Output:
        graph.replay()
        return output

    return replay


@final
class CapturedRound:
    """Rounds of one envelope over one pair of buffers."""

    def __init__(self, played: DeviceRound, capture: Capture) -> None:
        self._played = played
        self._grow = capture(played.grow)
        self.tree = self._grow()
        """Written over by every `grow`."""
        self._settle = capture(lambda: played.settle(self.tree))

    def grow(self) -> Tree:
        return self._grow()

    def settle(self, tree: Tree) -> Int[Tensor, " report"]:
        """`tree` is the one that `grow` has returned."""
        return self._settle()


def captured(played: DeviceRound, capture: Capture) -> tuple[CapturedRound | str, Int[Tensor, " report"]]:
    """A captured round, or why there is none: it can't be captured, or emits other tokens than the eager one (guesses
    may differ by a rounding, where they were compiled). And the report of the one round that was played for it."""
    state, envelope = played.state, played.selection.envelope
    before = state.copy()
    right = Report.read(played.settle(played.grow()).tolist(), envelope)
    state.restore(before)
    try:
        made = CapturedRound(played, capture)
        state.restore(before)
        report = made.settle(made.grow()).clone()
        found = Report.read(report.tolist(), envelope)
        if (found.tokens, found.ended) == (right.tokens, right.ended):
            return made, report
        reason = "it says otherwise than the eager one"
    except RuntimeError as error:  # such as a step that asks the host in its middle, as some experts' layers do
        reason = str(error).partition("\n")[0]
    state.restore(before)
    return reason, played.settle(played.grow())
