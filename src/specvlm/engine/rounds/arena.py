"""Arena: what rounds on the device need, and what answers of a pair take turns in: buffers, and rounds captured over
them."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import final

from jaxtyping import Int
from torch import Tensor

from specvlm.engine.caches.indexed_cache import IndexedCache
from specvlm.engine.caches.stacked_cache import StackedCache
from specvlm.engine.rounds.capture import Capture, CapturedRound, captured
from specvlm.engine.rounds.picking import Picking
from specvlm.engine.rounds.round import DeviceDecoder, DeviceRound, Side
from specvlm.engine.rounds.selection import selection
from specvlm.engine.rounds.state import State
from specvlm.engine.tree import TreeShape

log = logging.getLogger(__name__)

CAPTURED_AT = 2
"""A round is captured when it is played for the so many-th time over the same buffers."""
MAX_TABLES = 2
"""So many buffers of each model are held on to, with what was captured over them."""


@final
@dataclass(eq=False)
class Table:
    """Two buffers and a state: one answer at a time is played over them."""

    target: Side
    draft: Side
    state: State
    capture: Capture | None
    rounds: dict[TreeShape, DeviceRound] = field(default_factory=dict)
    seconds: float = 0.0
    """Spent on capturing."""
    _plays: dict[TreeShape, int] = field(default_factory=dict)
    _captured: dict[TreeShape, CapturedRound | str] = field(default_factory=dict)
    """Or why there is none."""

    def round(self, shape: TreeShape, vocab_size: int, picking: Picking | None = None) -> DeviceRound:
        """Rounds of this shape. With `picking` they are of one answer alone, and never captured."""
        if picking is None and shape in self.rounds:
            return self.rounds[shape]
        choice = selection(shape, vocab_size, self.state.waiting.device)
        if choice is None:
            raise ValueError(f"trees of a {type(shape).__name__} are grown by the host")
        made = DeviceRound(self.target, self.draft, choice, self.state, vocab_size, picking)
        if picking is None:
            self.rounds[shape] = made
        return made

    def captured(self, shape: TreeShape) -> CapturedRound | None:
        found = self._captured.get(shape)
        return found if isinstance(found, CapturedRound) else None

    def try_capture(self, shape: TreeShape) -> Int[Tensor, " report"] | None:
        """Count a play of a round of this shape; if it is worth capturing from now on, play it so, and return its
        report."""
        self._plays[shape] = self._plays.get(shape, 0) + 1
        if self.capture is None or shape in self._captured or self._plays[shape] < CAPTURED_AT:
            return None
        began = time.perf_counter()
        found, report = captured(self.rounds[shape], self.capture)
        self.seconds += time.perf_counter() - began
        self._captured[shape] = found
        if isinstance(found, str):
            log.warning("rounds are played without a capture of them: %s", found)
        return report


@final
class Arena:
    """Of one pair of models on one device. Answers in flight have tables of their own."""

    def __init__(
        self, target: DeviceDecoder, draft: DeviceDecoder, capture: Capture | None = None, *, whole: bool = False
    ) -> None:
        """`whole`: forwards look at whole buffers, however little is in use: they are captured, or compiled."""
        self.target, self.draft, self._capture = target, draft, capture
        self.whole = whole or capture is not None
        self._tables: list[Table] = []

    @property
    def captures(self) -> bool:
        """Whether rounds that pick nothing are captured."""
        return self._capture is not None

    @property
    def capture_seconds(self) -> float:
        """Spent on capturing over the tables that there are."""
        return sum(table.seconds for table in self._tables)

    def table(self, target: StackedCache, draft: StackedCache, num_eos: int) -> Table:
        """The one over these two caches' buffers."""
        for known in self._tables:
            same = known.target.cache.rows is target.rows and known.draft.cache.rows is draft.rows
            if same and len(known.state.eos_ids) == max(1, num_eos):
                return known
        state = State.on(target.rows.device, num_eos)
        sides = Side(self.target, IndexedCache(target.rows)), Side(self.draft, IndexedCache(draft.rows))
        made = Table(*sides, state, self._capture)
        self._tables = [*self._tables, made][-MAX_TABLES:]
        return made
