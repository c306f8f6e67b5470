"""What happened in one answer, and how long each phase took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from specvlm.engine.host.memory import forget_peak, peak_resident_memory
from specvlm.engine.tree import DraftTree

PHASES = (
    "decode_video",
    "preprocess",
    "vision_target",
    "vision_draft",
    "prefill_target",
    "prefill_draft",
    "scoring",
    "pruning",
    "draft",
    "verify",
    "other",
)

ON_HOST = ("decode_video", "preprocess")
"""Phases for which no GPU works."""

ROUNDS = "rounds"
"""What a timeline calls all that comes behind the first token and the draft's prefill."""

SAME_INSTANT, NO_TIME = 1e-3, 1e-4
"""Seconds: two stretches of one kind of work that are no further apart are one, and one that is no longer is none."""


_ASKED: ContextVar[bool] = ContextVar("phases are asked for", default=False)


@contextmanager
def timing_phases() -> Iterator[None]:
    """A block in which answers that begin, in this thread, time each of their phases.

    On a CPU they always do. A GPU works while the host goes on, and has to be waited for at the end of each phase,
    which takes time itself: for measuring, where it is wanted.
    """
    token = _ASKED.set(True)
    try:
        yield
    finally:
        _ASKED.reset(token)


def synchronize(devices: Iterable[torch.device]) -> None:
    """Wait until these have done all that they were given: GPUs among them, a CPU has nothing left to do."""
    for gpu in _gpus(devices):
        torch.cuda.synchronize(gpu)


@dataclass(frozen=True)
class Round:
    """One target forward after the prefill: what was guessed, which nodes of it were right (the root, 0, first), and
    the target's own token after them."""

    tree: DraftTree
    path: tuple[int, ...]
    next_token: int
    num_draft_forwards: int = 0
    looked_again: bool = False
    """Whether `next_token` took a forward of its own, since the first one was too close to call."""

    @property
    def num_drafted(self) -> int:
        return len(self.tree) - 1

    @property
    def num_accepted(self) -> int:
        """Draft tokens that the target agreed with."""
        return len(self.path) - 1


class Span(NamedTuple):
    """One stretch of work in front of an answer's first token, or behind it. Seconds since the answer began."""

    name: str
    start: float
    end: float


def joined(spans: Iterable[Span]) -> list[Span]:
    """The same work in as few spans as tell of it: those of one name that follow on one another are one."""
    found: list[Span] = []
    latest: dict[str, int] = {}
    for span in (span for span in spans if span.end - span.start > NO_TIME):
        place = latest.get(span.name)
        if place is not None and 0 <= span.start - found[place].end < SAME_INSTANT:
            found[place] = found[place]._replace(end=span.end)
        else:
            latest[span.name] = len(found)
            found.append(span)
    return found


@dataclass(slots=True)
class _Phase:
    """Three begin in every round: a generator would take three times as long to do this."""

    stats: Stats
    name: str
    is_drawn: bool = True
    start: float = 0.0
    outer: _Phase | None = None

    def __enter__(self) -> None:
        self.start = time.perf_counter()
        self.outer = self.stats.innermost
        if self.outer is not None:
            self.outer.pause(self.start)
        self.stats.innermost = self

    def __exit__(self, *_: object) -> None:
        now = time.perf_counter() if self.name in ON_HOST else self.stats.now()
        self.pause(now)
        self.stats.innermost = self.outer
        if self.outer is not None:
            self.outer.start = now

    def pause(self, now: float) -> None:
        self.stats.spend(self.name, now - self.start)
        if self.is_drawn and not self.stats.decodes:
            self.stats.draw(self.name, self.start, now)


@dataclass
class Stats:
    """Counts and seconds of one answer. Times come from a monotonic clock that starts when the object is made.

    `devices` are those that work for the answer. GPUs among them are waited for where a time ends: that of the first
    token, of decoding, of all; and, within `timing_phases`, of each phase. Elsewhere an answer that a GPU works for has
    no `phases`, since nobody knows whose work the host waited for.
    """

    devices: tuple[torch.device, ...] = ()
    num_prompt_tokens: int = 0
    num_video_tokens: int = 0
    num_known: int = 0
    """Prompt tokens that the target had read for an earlier question, and didn't read again."""
    num_kept: int = 0
    kept: Tensor | None = field(default=None, repr=False)
    """Which video tokens the draft saw: sorted indices [K], or [layers, kv_heads, K] where heads kept their own."""
    draft_bytes: int = 0
    """Bytes of keys and values that drafting holds beside the target's, from the start."""
    video_bytes: int = 0
    """Bytes of the target's own keys and values of the video tokens."""
    on_host_because: str | None = None
    """Why rounds were the host's and not the device's; None: they were the device's."""
    num_tokens: int = 0
    num_rounds: int = 0
    """Rounds after the prefill, each one target forward; stock forwards too, of which nothing else is known."""
    rounds: list[Round] = field(default_factory=list, repr=False)
    phases: dict[str, float] = field(default_factory=dict)
    """Seconds of the answer's own thread, which add up to `total_seconds`. Waiting for frames that another thread
    decodes is `decode_video`."""
    timeline: list[Span] = field(default_factory=list, repr=False)
    """What was done when until decoding began, in any thread, and then the `rounds`, as one span. Spans may overlap,
    and waiting is none. Where no phases are timed, only what threads beside the answer's own did."""
    damage: tuple[str, ...] = ()
    """What was found missing of videos, each with its name."""
    ttft_seconds: float = 0.0
    decode_seconds: float = 0.0
    total_seconds: float = 0.0
    peak_memory_bytes: int = 0
    wait: Callable[[tuple[torch.device, ...]], None] = field(default=synchronize, repr=False)
    _times_phases: bool = field(default_factory=_ASKED.get, repr=False)
    _start: float = field(default_factory=time.perf_counter, repr=False)
    _decode_start: float | None = field(default=None, repr=False)
    innermost: _Phase | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.devices = tuple(_gpus(self.devices))
        self._times_phases = self._times_phases or not self.devices

    def phase(self, name: str, *, is_drawn: bool = True) -> AbstractContextManager[object]:
        """Add the seconds spent inside to the phase `name`, one of PHASES: but for those spent in a phase inside of it.

        What `is_drawn` is told on the timeline.
        """
        return _Phase(self, name, is_drawn) if self._times_phases else nullcontext()

    def draw(self, name: str, start: float, end: float) -> None:
        """Tell of work on the timeline, from and to by the clock `time.perf_counter`: any thread may."""
        self.timeline.append(Span(name, start - self._start, end - self._start))

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Leave the seconds spent inside out of every clock: work that is none of the answer's."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._start += time.perf_counter() - start

    def move(self, source: str, target: str, seconds: float) -> None:
        """Charge `seconds` that were measured inside one phase to another."""
        self.spend(source, -seconds)
        self.spend(target, seconds)

    def charge(self, name: str, seconds: float) -> None:
        """Add to the phase `name`, and to the times, work that was done for this answer before its clock started."""
        self.spend(name, seconds)
        self.ttft_seconds += seconds
        self.total_seconds += seconds

    def first_token(self) -> None:
        self.ttft_seconds = self.now() - self._start

    @property
    def decodes(self) -> bool:
        """Whether decoding has begun."""
        return self._decode_start is not None

    def decode_begins(self) -> None:
        """The first token is known and the drafter has seen its prompt: the clock of `decode_seconds` starts."""
        self._decode_start = self.now()

    def add_round(self, finished: Round) -> None:
        self.rounds.append(finished)
        self.num_rounds = len(self.rounds)

    def finish(self, num_tokens: int) -> None:
        """Close the clocks; what no phase claimed is `other`."""
        now = self.now()
        self.num_tokens = num_tokens
        self.total_seconds = now - self._start
        self.decode_seconds = 0.0 if self._decode_start is None else now - self._decode_start
        if self._decode_start is not None:
            self.draw(ROUNDS, self._decode_start, now)
        self.timeline = joined(self.timeline)
        if self._times_phases:
            self.phases["other"] = max(0.0, self.total_seconds - sum(self.phases.values()))
        self.peak_memory_bytes = peak_memory_bytes(self.devices)

    def now(self) -> float:
        """When the devices have done what they were given so far."""
        if self.devices:
            self.wait(self.devices)
        return time.perf_counter()

    def spend(self, name: str, seconds: float) -> None:
        """Add seconds to a phase, if phases are timed."""
        if self._times_phases:
            self.phases[name] = self.phases.get(name, 0.0) + seconds

    @property
    def num_drafted(self) -> int:
        return sum(each.num_drafted for each in self.rounds)

    @property
    def num_accepted(self) -> int:
        """Draft tokens that the target agreed with."""
        return sum(each.num_accepted for each in self.rounds)

    @property
    def num_draft_forwards(self) -> int:
        """Forwards of the draft after its prefill."""
        return sum(each.num_draft_forwards for each in self.rounds)

    @property
    def num_second_looks(self) -> int:
        """Target forwards of one row that decided what was too close to call (`Options.strict`)."""
        return sum(each.looked_again for each in self.rounds)

    @property
    def accepted_per_depth(self) -> list[int]:
        """In how many rounds the guess at depth 1, 2, ... was accepted."""
        deepest = max((each.num_accepted for each in self.rounds), default=0)
        return [sum(each.num_accepted > depth for each in self.rounds) for depth in range(deepest)]

    @property
    def mean_acceptance_length(self) -> float:
        """Emitted tokens per target forward after the prefill, bonus included: plain decoding is 1.00."""
        num_forwards = self.num_rounds + self.num_second_looks
        return (self.num_tokens - 1) / num_forwards if num_forwards else 1.0

    @property
    def acceptance_rate(self) -> float | None:
        """Accepted per drafted token; None when nothing was drafted."""
        return self.num_accepted / self.num_drafted if self.num_drafted else None

    @property
    def tokens_per_second(self) -> float:
        """Tokens after the first per second of decoding; 0 when there was nothing to decode."""
        return (self.num_tokens - 1) / self.decode_seconds if self.decode_seconds and self.num_tokens > 1 else 0.0


def peak_memory_bytes(
    devices: Iterable[torch.device] = (), *, held: Callable[[torch.device], int] = torch.cuda.max_memory_allocated
) -> int:
    """The most memory in use since `reset_peak_memory`: what torch held on the GPUs among `devices` or, if there are
    none among them, what was resident. Whether the machine has a GPU that nobody works on plays no part.

    Where the system can't forget an old peak (anywhere but Linux), it is the most since the process began.
    """
    gpus = _gpus(devices)
    return sum(map(held, gpus)) if gpus else peak_resident_memory()


def reset_peak_memory(
    devices: Iterable[torch.device] = (),
    *,
    forget: Callable[[torch.device], None] = torch.cuda.reset_peak_memory_stats,
) -> None:
    """Forget the highest use of memory so far. For measuring only: it is the whole process's mark."""
    for gpu in _gpus(devices):
        forget(gpu)
    forget_peak()


def _gpus(devices: Iterable[torch.device]) -> list[torch.device]:
    return [device for device in devices if device.type == "cuda"]
