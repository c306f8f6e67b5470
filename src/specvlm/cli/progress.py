"""How far a long run is: a bar on a terminal; elsewhere a line every so often, for a log that somebody reads."""

from __future__ import annotations

import abc
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, final

from specvlm.cli.screen import console

if TYPE_CHECKING:
    from rich.progress import Progress

Result = TypeVar("Result")
Clock = Callable[[], float]

EVERY = 30.0
"""Seconds between two lines, at least."""


def standing(done: int, total: int, unit: str, seconds: float, timed: int) -> str:
    """How many of how many are done, and how long the others will take if they take as long as `timed` of them did,
    which were done in so many seconds."""
    said = f"{done} of {total} {unit}"
    return said if done >= total or not timed else f"{said}, about {spoken((total - done) * seconds / timed)} left"


def spoken(seconds: float) -> str:
    """A time as one says it, by its two greatest units at the most."""
    if seconds < 59.5:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


@final
class Lines:
    """Lines on standard error. What came before the first of a run was done (models are loaded then) tells nothing of
    how long the others take."""

    def __init__(self, command: str, unit: str, clock: Clock = time.monotonic, every: float = EVERY) -> None:
        self._command, self._unit, self._clock, self._every = command, unit, clock, every
        self._first: tuple[int, float] | None = None
        self._last = float("-inf")

    def count(self, done: int, total: int, note: str = "") -> None:
        """Say it, if it is the beginning or the end or was long unsaid. Nothing is said of nothing to do."""
        now = self._clock()
        if done and self._first is None:
            self._first = done, now
        if total and (done in (0, total) or now - self._last >= self._every):
            self._last = now
            before, since = self._first or (done, now)
            told = standing(done, total, self._unit, now - since, done - before)
            print(f"{self._command}: {told}{note}", file=sys.stderr, flush=True)


class Telling(abc.ABC):
    """What a run tells of itself. `begin` is told how many records are missing, `tell` each that is made."""

    def __init__(self) -> None:
        self._done, self._total, self._broken = 0, 0, 0

    def begin(self, left: int) -> None:
        self._total = left
        self._show()

    def tell(self, record: dict[str, Any]) -> None:
        self._done, self._broken = self._done + 1, self._broken + bool(record["error"])
        self._show()

    def paused(self, work: Callable[[], Result]) -> Result:
        """Out of the way of what `work` has to say."""
        return work()

    @abc.abstractmethod
    def _show(self) -> None:
        """How it stands now."""

    @property
    def _note(self) -> str:
        return f", {self._broken} broken" if self._broken else ""


@final
class Log(Telling):
    """A line every so often."""

    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self._lines = lines

    def _show(self) -> None:
        self._lines.count(self._done, max(self._total, self._done), self._note)


@final
class Bar(Telling):
    """A bar that is gone when it is done."""

    def __init__(self, bar: Progress) -> None:
        super().__init__()
        self._bar = bar
        self._line = bar.add_task("Preparing", total=None)

    def paused(self, work: Callable[[], Result]) -> Result:
        self._bar.stop()
        result = work()
        self._bar.start()
        return result

    def begin(self, left: int) -> None:
        self._bar.reset(self._line, total=left)  # whose clock begins now
        super().begin(left)

    def _show(self) -> None:
        self._bar.update(self._line, completed=self._done, description=f"Answering{self._note}")


@contextmanager
def progress(command: str) -> Iterator[Telling]:
    """A run's way to tell of itself here."""
    screen = console(stderr=True)
    if not screen.is_terminal:
        yield Log(Lines(command, "answers"))
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    elapsed, left = TimeElapsedColumn(), TimeRemainingColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), elapsed, TextColumn("left"), left)
    with Progress(*columns, console=screen, transient=True) as bar:
        yield Bar(bar)


def counting(command: str, unit: str) -> Callable[[int, int], None]:
    """Lines for what has a spinner on a terminal."""
    return (lambda done, total: None) if sys.stderr.isatty() else Lines(command, unit).count
