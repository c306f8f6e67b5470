"""Turns: one script in two processes, each with a build of its own, asked one after the other.

    python -m specvlm.bench.builds.turns host_time /another/checkout/src

What disturbs the machine meanwhile disturbs both. A script stands alone but for what both builds have: it writes its
cases as a line of JSON, and for each case that it then reads, a line with `seconds`, what was `said` in them, which
must be the same in both builds, and the most `bytes` of memory that it took, if that is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent
OWN = HERE.parents[2]
"""The source folder of this very build."""


@dataclass(frozen=True)
class Compared:
    """One case in both builds: medians of as many turns each."""

    case: str
    before: float
    after: float
    """Seconds."""
    same: bool
    """Whether every turn said the same."""
    memory: tuple[int, int] | None = None
    """The most bytes of any turn, before and after."""

    @property
    def times_as_fast(self) -> float:
        return self.before / self.after


@dataclass
class Turns:
    """What two builds answered, turn by turn; `ask` is given a build's number and a case."""

    ask: Callable[[int, str], dict[str, Any]]
    seconds: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))
    said: list[Any] = field(default_factory=list)
    bytes: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))

    def compare(self, case: str, turns: int) -> Compared:
        """Both begin as often as the other. Of the first turn nothing is kept: it warms up."""
        for turn in range(1 + turns):
            for build in (0, 1) if turn % 2 else (1, 0):
                answer = self.ask(build, case)
                if turn:
                    self.seconds[build].append(answer["seconds"])
                    self.said.append(answer["said"])
                    self.bytes[build].extend([answer["bytes"]] if "bytes" in answer else [])
        before, after = map(median, self.seconds)
        memory = (max(self.bytes[0]), max(self.bytes[1])) if all(self.bytes) else None
        return Compared(case, before, after, all(each == self.said[0] for each in self.said), memory)


class Build:
    """A process in which a script runs on the source folder `src`."""

    def __init__(self, script: str, src: Path) -> None:
        """Errors: ValueError for a script that ends before it has named its cases."""
        command = [sys.executable, str(HERE / f"{script}.py")]
        # On the CPU, whatever there is: older builds went nowhere else by themselves.
        environment = os.environ | {"PYTHONPATH": str(src), "CUDA_VISIBLE_DEVICES": ""}
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.cases: list[str] = self._read()

    def ask(self, case: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(case + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.close()
            raise ValueError(f"{self._process.args} ended with {self._process.returncode}")
        return json.loads(line)

    def close(self) -> None:
        self._process.communicate()


def compared(script: str, before: Path, after: Path, turns: int) -> Iterator[Compared]:
    """All cases of a script, as they are known."""
    with closing(Build(script, before)) as first, closing(Build(script, after)) as second:
        for case in first.cases:
            yield Turns(lambda build, case: (first, second)[build].ask(case)).compare(case, turns)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Measure another build of specvlm and this one, in turns.")
    parser.add_argument("script", choices=("host_time", "decoding", "reading", "first_token"))
    parser.add_argument("before", type=Path, help="the source folder of the other build")
    parser.add_argument("--after", type=Path, default=OWN, help="that of the one it is compared with (default: this)")
    parser.add_argument("--turns", type=int, default=9)
    asked = parser.parse_args(arguments)
    sys.stdout.write(f"{'':36} {'before':>11} {'after':>11}  times as fast\n")
    for each in compared(asked.script, asked.before, asked.after, asked.turns):
        figures = f"{1e6 * each.before:8.1f} us {1e6 * each.after:8.1f} us {each.times_as_fast:8.2f}"
        memory = "" if each.memory is None else "   {:.0f} MiB, {:.0f} MiB".format(*(m / 2**20 for m in each.memory))
        sys.stdout.write(f"{each.case:36} {figures}{memory}{'' if each.same else '   NOT THE SAME'}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
