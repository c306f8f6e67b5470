"""Many cases, a few at once."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, repeat, zip_longest
from pathlib import Path

from fuzz.case import Case, Generator
from fuzz.running.log import Finished
from fuzz.running.sandbox import Attempt, Bounds, Trial, remove
from fuzz.running.verdict import verdict
from specvlm.errors import brief

Named = tuple[str, Case]
"""A case and its kind."""

EVERY = 50
"""One case of so many is run by the program itself, from cold."""

LONGEST_WORD = 2**15
"""Characters of a word of a command line that every system takes."""

PAUSE = 0.02
"""Seconds between two looks at what runs."""


def in_turn(kinds: dict[str, Generator], seed: int) -> Iterator[Named]:
    """One of each kind in turn, until all are at their end."""
    turns = zip_longest(*(zip(repeat(kind), made(seed)) for kind, made in kinds.items()))  # no end
    return (each for turn in turns for each in turn if each is not None)


def chosen(kinds: dict[str, Generator], seed: int, number: int) -> list[Named]:
    """So many cases. Errors: ValueError if two of them have the same name."""
    cases = list(islice(in_turn(kinds, seed), number))
    names = [f"{kind}/{case.name}" for kind, case in cases]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"cases of the same name: {', '.join(twice)}")
    return cases


def starts_cold(case: Case, seed: int) -> bool:
    """Whether this case is one of those that are run from cold: drawn, and the same whatever was run before. The system
    takes no longer words on a command line."""
    drawn = random.Random(f"{seed} {case.name}").randrange(EVERY) == 0
    return drawn and not case.python and max(map(len, case.argv), default=0) < LONGEST_WORD


def tried(
    cases: Iterable[Named],
    work: Path,
    *,
    seed: int,
    jobs: int,
    bounds: Bounds,
    on_attempt: Callable[[Case, Attempt], None] = lambda case, attempt: None,
) -> Iterator[Finished]:
    """Try them, `jobs` at once, each in a folder of its own below `work`; each as soon as it has ended."""
    waiting, running = iter(cases), dict[int, tuple[str, Trial]]()
    try:
        while True:
            free = (slot for slot in range(jobs) if slot not in running)
            for slot, (kind, case) in zip(free, waiting):  # noqa: B905  # whichever is at its end first
                cold = starts_cold(case, seed)
                running[slot] = kind, Trial(case, work / str(slot), bounds, cold=cold)
            if not running:
                return
            for slot, (kind, trial) in list(running.items()):
                if (attempt := trial.poll()) is not None:
                    del running[slot]
                    on_attempt(trial.case, attempt)
                    yield finished(kind, trial, attempt, bounds)
                    remove(trial.place)
            time.sleep(PAUSE)
    finally:
        for _, trial in running.values():
            trial.end()
            remove(trial.place)


def finished(kind: str, trial: Trial, attempt: Attempt, bounds: Bounds) -> Finished:
    """What is kept of it."""
    said = (attempt.stderr.strip().splitlines() or [""])[-1]
    return Finished(
        kind,
        trial.case.name,
        verdict(trial.case, attempt, bounds),
        attempt.code,
        round(attempt.seconds, 2),
        attempt.memory,
        trial.cold,
        brief(said, 300),
    )
