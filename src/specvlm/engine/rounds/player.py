"""Player: the rounds of one answer, played on the device, as the loop asks for them."""

from __future__ import annotations

from typing import final

from specvlm.engine.caches.indexed_cache import IndexedCache
from specvlm.engine.caches.kv_cache import TreeCache
from specvlm.engine.caches.stacked_cache import StackedCache
from specvlm.engine.drafting import Drafter, ModelDrafter
from specvlm.engine.rounds.picking import Picking, keeps_to_the_host
from specvlm.engine.rounds.report import Report
from specvlm.engine.rounds.round import DeviceDecoder, DeviceRound, Side
from specvlm.engine.rounds.selection import selection
from specvlm.engine.rounds.state import State
from specvlm.engine.sequence import Sequence
from specvlm.engine.tree import DynamicTree, TreeShape, TreeTemplate


def why_not(sequence: Sequence, drafter: Drafter) -> str | None:
    """What of an answer only the host can do, or None."""
    chooser = sequence.chooser
    if not isinstance(drafter, ModelDrafter):
        return "there is no draft model"
    if not isinstance(drafter.shape, (DynamicTree, TreeTemplate)):
        return f"trees are a {type(drafter.shape).__name__}"
    if not (isinstance(sequence.cache, StackedCache) and isinstance(drafter.cache, StackedCache)):
        return "a cache isn't of fixed capacity"
    if sequence.cache.rows.device != drafter.cache.rows.device:
        return "the two models are on different devices"
    if sequence.stopping.criterion is not None:
        return "stopping criteria look at the text"
    if chooser.doubt:
        return "what is too close to call is looked at again"
    name = keeps_to_the_host(chooser.processors or ())  # type: ignore[arg-type]  # generate's are a list
    return None if name is None else f"{name} asks the host"


@final
class Player:
    """Plays rounds of one answer over the caches of its sequence and its drafter, which it tells what came of them.

    The host may play rounds in between: what the device has to know of them is told it at the next one.
    """

    def __init__(self, target: DeviceDecoder, draft: DeviceDecoder, sequence: Sequence, drafter: ModelDrafter) -> None:
        """Errors: ValueError for an answer that `why_not` has a reason against."""
        reason = why_not(sequence, drafter)
        if reason is not None:
            raise ValueError(reason)
        self._sequence, self._drafter = sequence, drafter
        self._target, self._draft = Side(target, _indexed(sequence.cache)), Side(draft, _indexed(drafter.cache))
        self._device = self._target.cache.cache.rows.device
        self._state = State.on(self._device, len(sequence.stopping.eos_ids))
        self._state.write(eos_ids=sorted(sequence.stopping.eos_ids))
        self._rounds: dict[TreeShape, DeviceRound] = {}
        self._told: tuple[int, ...] = ()
        """What the device knows, as `_stand` says it."""
        self._picking = Picking.of(sequence, self._device)

    def play(self) -> Report | None:
        """One round; None where no guess is wanted, since the next token is the answer's last."""
        stats, depth = self._sequence.stats, self._sequence.num_left - 1
        if depth < 1:
            return None
        if self._stand() != self._told:
            self._tell()
        played = self._round(self._drafter.shape.cut(depth))
        self._bound(played)
        with stats.phase("draft"):
            tree = played.grow()
        with stats.phase("verify"):
            report = Report.read(played.settle(tree).tolist(), played.selection.envelope)
        self._note(report)
        return report

    def _stand(self) -> tuple[int, ...]:
        """All that changes from round to round, as the host knows it."""
        unread = (*self._drafter.unread, self._sequence.tokens[-1])
        return (self._sequence.cache.length, self._drafter.cache.length, *unread)

    def _tell(self) -> None:
        sequence, drafter = self._sequence, self._drafter
        target_length, draft_length, *waiting = self._stand()
        root_position = sequence.next_position + len(sequence.tokens) - 1
        self._state.write(
            target_length=[target_length],
            target_offset=[root_position - target_length],
            draft_length=[draft_length],
            draft_offset=[drafter.next_position - draft_length],
            waiting=[*waiting, waiting[-1]][:2],
            num_waiting=[len(waiting)],
        )
        if self._picking is not None:
            self._picking.write(sequence.history())

    def _round(self, shape: TreeShape) -> DeviceRound:
        if shape not in self._rounds:
            choice = selection(shape, self._drafter.vocab_size, self._device)
            assert choice is not None  # `why_not` has looked at the shape
            self._rounds[shape] = DeviceRound(
                self._target, self._draft, choice, self._state, self._drafter.vocab_size, self._picking
            )
        return self._rounds[shape]

    def _bound(self, played: DeviceRound) -> None:
        """No forward of this round looks further than it may write."""
        for side, rows in ((self._target, played.target_rows), (self._draft, played.draft_rows)):
            side.cache.cache.reserve(side.cache.length + rows)
            side.cache.bound = side.cache.length + rows

    def _note(self, report: Report) -> None:
        sequence, drafter, accepted = self._sequence, self._drafter, len(report.path) - 1
        read = len(drafter.unread) + 1 + accepted - len(report.unread)
        for side, more in ((self._target, len(report.path)), (self._draft, read)):
            side.cache.cache.hold(side.cache.length + more)
        drafter.resume(list(report.unread), drafter.next_position + read)
        self._told = (sequence.cache.length, drafter.cache.length, *report.unread, report.tokens[-1])
        if self._picking is not None and self._picking.dice is not None:
            self._picking.dice.keep(len(report.tokens))


def _indexed(cache: TreeCache) -> IndexedCache:
    assert isinstance(cache, StackedCache)  # `why_not` has looked
    return IndexedCache(cache)
