"""A turn: one request on its way through the worker, and whether anybody still waits for it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import final

from specvlm.answering.answer import Generation, Piece
from specvlm.prompts.prompt import Prompt
from specvlm.serve.errors import RefusedError
from specvlm.video import Video


class GoneError(Exception):
    """Nobody waits for the answer any more."""


@dataclass(frozen=True)
class Finished:
    """The last event of an answer."""

    generation: Generation
    text: str
    """What is shown: of the generation's, what stands in front of a stop string."""
    warning: str | None = None


@dataclass(frozen=True, eq=False)
class Seen:
    """What the model looks at, in the place of an answer: a video, and a prompt about it."""

    video: Video
    prompt: Prompt
    warning: str | None = None


Event = tuple[Piece, ...] | Finished | Seen | RefusedError
"""What a worker tells: some of the answer, all of it, what was to be looked at, or why there is none."""


@final
@dataclass(eq=False)
class Turn:
    """Made by the event loop, worked for by one thread. Events wait without a bound: a slow reader holds nobody up, and
    there are never more of them than an answer has tokens."""

    deadline: float
    """By `time.monotonic`."""
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    events: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)
    begun: float = field(default_factory=time.monotonic)
    _gone: threading.Event = field(default_factory=threading.Event)
    _on_gone: list[Callable[[], object]] = field(default_factory=list)

    def give_up(self) -> None:
        """Nobody waits any more: whoever works for it stops. From the event loop."""
        self._gone.set()
        for stop in self._on_gone:
            stop()

    @contextmanager
    def stopping_by(self, stop: Callable[[], object]) -> Iterator[None]:
        """A block that `stop` ends early once nobody waits."""
        self._on_gone.append(stop)
        try:
            yield
        finally:
            self._on_gone.remove(stop)

    async def event(self) -> Event:
        """The next one. At the end of its time it is a refusal."""
        try:
            return await asyncio.wait_for(self.events.get(), max(0.0, self.seconds_left))
        except TimeoutError:
            return too_late()

    @property
    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()

    def check(self) -> None:
        """Errors: GoneError; RefusedError (504) once its time is over."""
        if self._gone.is_set():
            raise GoneError
        if self.seconds_left <= 0:
            raise too_late()

    def tell(self, event: Event) -> None:
        """From the worker's thread."""
        with suppress(RuntimeError):  # the loop has ended, and everybody is gone
            self.loop.call_soon_threadsafe(self.events.put_nowait, event)


def too_late() -> RefusedError:
    return RefusedError(504, "the answer took longer than this server gives to one request", code="timeout")


CURRENT: ContextVar[Turn | None] = ContextVar("the turn that this thread works for", default=None)


def check() -> None:
    """`Turn.check` of the turn that this thread works for, if it works for one."""
    turn = CURRENT.get()
    if turn is not None:
        turn.check()
