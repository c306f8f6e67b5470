"""What a process that answers all day keeps: memory, open files and threads, at the end and after the first tenth.

`make soak`: answers, streams that are closed early, videos watched under a bound, and four threads at once, all in one
process. Exits with 1 if anything grew.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psutil

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TORCH_LOGS": "-all"}

FILMS = 6
"""Different ones, which are asked about in turn."""
TOKENS = 12
KEPT_BYTES = 4 * 2**20
"""The bound under which videos are watched: a few of them."""
SLACK = 48 * 2**20
"""Bytes by which memory may differ: what an allocator keeps for the next time comes and goes by so many."""


@dataclass(frozen=True)
class State:
    """What a process has, in bytes and in numbers."""

    memory: int
    files: int
    threads: int

    @classmethod
    def now(cls) -> State:
        gc.collect()
        process = psutil.Process()
        files = process.num_fds()
        return cls(process.memory_info().rss, files, threading.active_count())

    def grew_from(self, before: State) -> bool:
        return self.memory > before.memory + SLACK or self.files > before.files or self.threads > before.threads


@dataclass(frozen=True)
class Line:
    """One thing that was done, so often, and what the process had after the first tenth and at the end."""

    what: str
    number: int
    seconds: float
    first: State
    last: State

    @property
    def grew(self) -> bool:
        return self.last.grew_from(self.first)


def repeated(what: str, number: int, step: Callable[[int], object]) -> Line:
    """Do it so often."""
    start = time.monotonic()
    tenth = max(1, number // 10)
    first = None
    for turn in range(number):
        step(turn)
        if turn + 1 == tenth:
            first = State.now()
    assert first is not None
    return Line(what, number, time.monotonic() - start, first, State.now())


def side_by_side(what: str, num_threads: int, seconds: float, step: Callable[[int], object]) -> Line:
    """Do it in several threads for so long. Those have ended at both looks: the first is after a tenth of the time."""
    start, numbers = time.monotonic(), count()
    failed: list[BaseException] = []

    def until(end: float) -> None:
        while time.monotonic() < end and not failed:
            try:
                step(next(numbers))
            except BaseException as error:  # noqa: BLE001  # told by the thread that waits
                failed.append(error)

    states = []
    for part in (0.1, 0.9):
        end = time.monotonic() + part * seconds
        workers = [threading.Thread(target=until, args=(end,)) for _ in range(num_threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if failed:
            raise failed[0]
        states.append(State.now())
    return Line(what, next(numbers), time.monotonic() - start, *states)


def lines(folder: Path, scale: float) -> Iterator[Line]:
    """All that is tried, as it is done. Answers are checked against stock generate's all the time."""
    import specvlm
    from specvlm import pocket
    from specvlm.cli.screen import silence
    from specvlm.watching.watch_list import WatchList

    silence()
    vlm = specvlm.load("pocket", device="cpu")
    films = [pocket.demo_video(folder / f"{number}.mp4", number) for number in range(FILMS)]
    question = "Describe the video in detail."
    options = specvlm.Options(max_new_tokens=TOKENS, num_frames=8, plan="fixed", do_sample=False)
    right = [vlm.autoregressive(film, question, options).token_ids for film in films]

    def compare(number: int, token_ids: tuple[int, ...]) -> None:
        if token_ids != right[number % FILMS]:
            raise AssertionError(f"answer {number} is not stock generate's")

    def answer(number: int) -> None:
        compare(number, vlm.generate(films[number % FILMS], question, options).token_ids)

    def close_early(number: int) -> None:
        stream = vlm.stream(films[number % FILMS], question, options)
        for _ in range(number % 3):
            next(stream)
        stream.close()

    watching = WatchList(vlm, KEPT_BYTES)

    def watch(number: int) -> None:
        watched = watching.watch(films[number % FILMS], options)
        compare(number, watched.ask(question).token_ids)
        watched.ask("How many shapes are there?")

    yield repeated("answers", round(500 * scale), answer)
    yield repeated("streams closed early", round(100 * scale), close_early)
    yield repeated("videos watched under a bound, two questions each", round(30 * scale), watch)
    yield side_by_side("answers in four threads", 4, 120 * scale, answer)


def table(found: list[Line]) -> str:
    """In Markdown."""
    rows = [
        "| what | times | memory after a tenth | memory at the end | open files | threads | grew |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    rows += [
        f"| {line.what} | {line.number} | {line.first.memory / 2**20:.0f} MiB | {line.last.memory / 2**20:.0f} MiB | "
        f"{line.first.files} and {line.last.files} | {line.first.threads} and {line.last.threads} | "
        f"{'yes' if line.grew else 'no'} |"
        for line in found
    ]
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="a part of it all, such as 0.1")
    parser.add_argument("--page", type=Path, help="put the table into this page, between its comments")
    asked = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory(prefix="specvlm-soak-") as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        for line in lines(Path(folder), asked.scale):
            found.append(line)
            print(f"{line.what}: {line.number} in {line.seconds:.0f} s, {line.first} -> {line.last}", file=sys.stderr)
    print(f"\n{table(found)}")
    if asked.page is not None:
        from specvlm.bench.pocket_pairs import put
        from specvlm.machine import machine

        put(asked.page, "soak", f"In one process, one after the other; {machine()['cpu']}.\n\n{table(found)}")
    return int(any(line.grew for line in found))


if __name__ == "__main__":
    sys.exit(main())
