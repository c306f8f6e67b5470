"""Player: the rounds of one answer, played on the device, as the loop asks for them."""

from __future__ import annotations

from typing import cast, final

import torch
from jaxtyping import Int
from torch import Tensor

from specvlm.engine.caches.stacked_cache import StackedCache
from specvlm.engine.drafting import Drafter, ModelDrafter
from specvlm.engine.rounds.arena import Arena, Table
from specvlm.engine.rounds.capture import CapturedRound
from specvlm.engine.rounds.picking import Picking, keeps_to_the_host
from specvlm.engine.rounds.reading import Reading
from specvlm.engine.rounds.report import Report, RoundPlan
from specvlm.engine.rounds.round import DeviceRound
from specvlm.engine.sequence import Sequence
from specvlm.engine.tree import DynamicTree, TreeShape, TreeTemplate

UNFIT = "a cache isn't of fixed capacity"
MOST_WAITING = 2
"""Tokens that a round's first draft forward reads: the root, and one before it."""


def why_not(sequence: Sequence, drafter: Drafter) -> str | None:
    """What of an answer only the host can do, or None."""
    if not isinstance(drafter, ModelDrafter):
        return "there is no draft model"
    if reason := why_never(sequence):  # before what is only so because of it
        return reason
    if not isinstance(drafter.shape, (DynamicTree, TreeTemplate, RoundPlan)):
        return f"trees are a {type(drafter.shape).__name__}"
    if not (isinstance(sequence.cache, StackedCache) and isinstance(drafter.cache, StackedCache)):
        return UNFIT
    if sequence.cache.rows.device != drafter.cache.rows.device:
        return "the two models are on different devices"
    return None


def why_never(sequence: Sequence) -> str | None:
    """What of an answer only the host can do, whoever guesses, or None."""
    chooser = sequence.chooser
    if sequence.stopping.criterion is not None:
        return "stopping criteria look at the text"
    if chooser.doubt:
        return "what is too close to call is looked at again"
    name = keeps_to_the_host(chooser.processors or ())  # type: ignore[arg-type]  # generate's are a list
    if name is not None:
        return f"{name} asks the host"
    return None if isinstance(sequence.cache, StackedCache) else UNFIT


@final
class Player:
    """Plays rounds of one answer over the caches of its sequence and its drafter, which it tells what came of them.

    The host may play rounds in between: what the device has to know of them is told it at the next one.
    """

    def __init__(self, arena: Arena, sequence: Sequence, drafter: ModelDrafter) -> None:
        """Errors: ValueError for an answer that `why_not` has a reason against."""
        reason = why_not(sequence, drafter)
        if reason is not None:
            raise ValueError(reason)
        self._arena, self._sequence, self._drafter = arena, sequence, drafter
        self._caches = cast(StackedCache, sequence.cache), cast(StackedCache, drafter.cache)  # `why_not` has looked
        self._picking = Picking.of(sequence, self._caches[0].rows.device)
        self._table: Table | None = None
        self._ahead: CapturedRound | None = None
        """The round whose tree has been grown already."""
        self._told: tuple[int, ...] = ()
        """What the device knows, as `_stand` says it."""

    @torch.no_grad()  # and not inference mode, whose tensors no compiled forward takes
    def play(self) -> Report | None:
        """One round; None where no guess is wanted: since the next token is the answer's last, or none would pay."""
        depth, plan = self._sequence.num_left - 1, self._drafter.shape
        if depth < 1:
            return None
        unread = len(self._drafter.unread)
        shape = plan.choose(depth, unread) if isinstance(plan, RoundPlan) else plan.cut(depth)
        if shape is None:
            return None
        if unread >= MOST_WAITING:
            with self._sequence.stats.phase("draft"):
                self._drafter.read_up()
        table, played = self._ready(shape)
        if self._stand() != self._told:
            self._tell(table)
            self._ahead = None
        reading = Reading(self._numbers(table, shape, played))
        self._grow_ahead(table, shape, played)
        report = Report.read(reading.wait(), played.selection.envelope)
        self._note(report)
        if isinstance(plan, RoundPlan):
            plan.learn(report)
        return report

    def _ready(self, shape: TreeShape) -> tuple[Table, DeviceRound]:
        """A round of this shape, over caches that have room for it."""
        table = self._sit_down()
        played = table.round(shape, self._drafter.vocab_size, self._picking)
        return self._ready(shape) if self._make_room(played) else (table, played)

    def _sit_down(self) -> Table:
        """At the table over the caches' buffers, which are others when a cache has grown."""
        target, draft = self._caches
        table = self._table
        if table is None or table.target.cache.rows is not target.rows or table.draft.cache.rows is not draft.rows:
            eos_ids = sorted(self._sequence.stopping.eos_ids)
            self._table = table = self._arena.table(target, draft, len(eos_ids))
            table.state.write(eos_ids=eos_ids)
            self._told = ()
        return table

    def _make_room(self, played: DeviceRound) -> bool:
        """Whether a cache had to grow. No forward looks further than it may write, unless it looks at all."""
        grew = False
        for cache, side, rows in zip(
            self._caches, (played.target, played.draft), (played.target_rows, played.draft_rows), strict=True
        ):
            end = cache.length + rows
            grew |= end > cache.capacity
            cache.reserve(end)
            side.cache.bound = cache.capacity if self._arena.whole else end
        return grew

    def _numbers(self, table: Table, shape: TreeShape, played: DeviceRound | CapturedRound) -> Int[Tensor, " report"]:
        # What is cut is played once an answer, and what one answer picks by is of no use to the next.
        plan = self._drafter.shape
        if self._picking is None and (isinstance(plan, RoundPlan) or shape == plan):
            if table.captured(shape) is None:
                report = table.try_capture(shape)
                if report is not None:
                    return report
            played = table.captured(shape) or played
        stats = self._sequence.stats
        with stats.phase("draft"):
            tree = self._ahead.tree if self._ahead is not None and self._ahead is played else played.grow()
        with stats.phase("verify"):
            return played.settle(tree)

    def _grow_ahead(self, table: Table, shape: TreeShape, played: DeviceRound) -> None:
        """Begin the next tree while the host waits for what this round came to, if there can be one, as large. It is
        in vain if the answer has ended, or goes on otherwise, and then nothing is lost but the device's time."""
        captured, most = table.captured(shape), played.selection.envelope.levels + 1
        self._ahead = None
        fits = all(
            cache.length + most + rows <= cache.capacity
            for cache, rows in zip(self._caches, (played.target_rows, played.draft_rows), strict=True)
        )
        if captured is not None and self._picking is None and fits and self._sequence.num_left - most >= most:
            with self._sequence.stats.phase("draft"):
                captured.grow()
            self._ahead = captured

    def _stand(self) -> tuple[int, ...]:
        """All that changes from round to round, as the host knows it."""
        unread = (*self._drafter.unread, self._sequence.tokens[-1])
        return (self._sequence.cache.length, self._drafter.cache.length, *unread)

    def _tell(self, table: Table) -> None:
        sequence, drafter = self._sequence, self._drafter
        target_length, draft_length, *waiting = self._stand()
        root_position = sequence.next_position + len(sequence.tokens) - 1
        table.state.write(
            target_length=[target_length],
            target_offset=[root_position - target_length],
            draft_length=[draft_length],
            draft_offset=[drafter.next_position - draft_length],
            waiting=[*waiting, waiting[-1]][:MOST_WAITING],
            num_waiting=[len(waiting)],
        )
        if self._picking is not None:
            self._picking.write(sequence.history())

    def _note(self, report: Report) -> None:
        sequence, drafter, accepted = self._sequence, self._drafter, len(report.path) - 1
        read = len(drafter.unread) + 1 + accepted - len(report.unread)
        for cache, more in zip(self._caches, (len(report.path), read), strict=True):
            cache.hold(cache.length + more)
        drafter.resume(list(report.unread), drafter.next_position + read)
        self._told = (sequence.cache.length, drafter.cache.length, *report.unread, report.tokens[-1])
        if self._picking is not None and self._picking.dice is not None:
            self._picking.dice.keep(len(report.tokens))
