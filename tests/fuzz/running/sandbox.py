"""A case tried in a process of its own, which is a copy of one that has imported everything, within bounds.

A start of Python with PyTorch takes seconds, a fork milliseconds. What a fork can't show, a start from cold does: some
cases are run by the program itself.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, final

import psutil
import torch

from fuzz.case import Case
from specvlm.errors import SpecVLMError

MOST_READ = 2**20
"""Bytes of an output that are looked at, from its beginning and from its end."""
MOST_WRITTEN = 2**31
"""Bytes of a file that a case may write."""


@dataclass(frozen=True)
class Bounds:
    """Seconds on the wall, and bytes of memory of the process that is tried."""

    seconds: float = 60.0
    memory: int = 4 * 2**30


@dataclass(frozen=True)
class Attempt:
    """How a case ended. `code` is that of the process, below 0 if a signal ended it; `seconds` are those after its
    files were made, less what it waited for a processor or slept with the whole machine; `memory` is the peak, in
    bytes, of the largest process. `ended` says who ended it: itself or a bound."""

    code: int
    stdout: str
    stderr: str
    seconds: float
    memory: int
    ended: Literal["itself", "late", "large"] = "itself"


GAP = 1.0
"""Seconds between two looks, at most: where there were more, whoever looks wasn't running either."""


@final
class Clock:
    """The seconds that a process has had. A machine that is busy, or asleep, makes nobody late."""

    def __init__(self) -> None:
        self._seconds, self._waited, self._last = 0.0, 0.0, time.monotonic()

    def look(self, pid: int) -> float:
        now = time.monotonic()
        self._seconds, self._last = self._seconds + min(GAP, now - self._last), now
        self._waited = max(self._waited, _waited(pid))
        return max(0.0, self._seconds - self._waited)


def _waited(pid: int) -> float:
    """Seconds that a process was ready to run while others did, as Linux counts them; 0 where nobody does."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


@final
class Trial:
    """A case on its way: first its files are made, then it is tried. `poll` goes on with it, and never waits."""

    def __init__(self, case: Case, place: Path, bounds: Bounds, *, cold: bool = False) -> None:
        """`place` is a folder of its own, which is made anew."""
        self.case, self.place, self.cold = case, place, cold
        self._bounds, self._ended, self._peak, self._tried = bounds, "itself", 0, False
        remove(place)
        self.folder.mkdir(parents=True)
        self._clock = Clock()
        self._pid = forked(lambda: _make(case, self.folder))

    @property
    def folder(self) -> Path:
        """The case's working directory."""
        return self.place / "here"

    def poll(self) -> Attempt | None:
        """How it ended, once it has. Errors: RuntimeError for a case whose files can't be made."""
        pid, status, used = os.wait4(self._pid, os.WNOHANG)
        if pid == 0:
            self._watch()
            return None
        code, seconds = os.waitstatus_to_exitcode(status), self._clock.look(self._pid)
        if not self._tried:
            if code != 0:
                raise RuntimeError(f"{self.case.name}: its files can't be made (exit code {code})")
            self._tried, self._clock, self._ended, self._peak = True, Clock(), "itself", 0
            self._pid = forked(lambda: _try(self.case, self.place, self.folder, cold=self.cold))
            return None
        _end_group(self._pid)  # whatever it has left behind
        unit = 1 if sys.platform == "darwin" else 1024
        texts = [_text(self.place / name) for name in ("out", "err")]
        return Attempt(code, *texts, seconds, max(self._peak, used.ru_maxrss * unit), self._ended)

    def end(self) -> None:
        """End it, for nobody wants to know any more."""
        _end_group(self._pid)
        os.waitpid(self._pid, 0)

    def _watch(self) -> None:
        try:
            self._peak = max(self._peak, psutil.Process(self._pid).memory_info().rss)
        except psutil.Error:  # it is just ending
            return
        if self._clock.look(self._pid) > self._bounds.seconds:
            self._ended = "late"
        elif self._peak > self._bounds.memory:
            self._ended = "large"
        if self._ended != "itself":
            _end_group(self._pid)


def forked(work: Callable[[], Any]) -> int:
    """A process that does `work` and ends; its id. It leads a group of processes, as a command of a shell does."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        # torch 2.14 makes its pool of threads anew after a fork, at the first use, and two threads that come first at
        # once find none ("Invalid thread pool!"): a copy of a process uses it alone, before there are others.
        torch.set_num_threads(torch.get_num_threads())
        code = work() or 0
    except BaseException:  # noqa: BLE001  # nothing may get back into the code of the parent
        traceback.print_exc()
    finally:
        code = _finished(code)
        os._exit(code)


def remove(place: Path) -> None:
    """Remove what a case has left, protected as it may be, and deeper than Python goes."""
    for command in (["rm", "-rf"], ["chmod", "-R", "u+rwx"], ["rm", "-rf"]):
        if place.exists():
            subprocess.run([*command, str(place)], check=False, stderr=subprocess.DEVNULL)


def _make(case: Case, folder: Path) -> None:
    os.chdir(folder)
    case.make(folder)


def _try(case: Case, place: Path, folder: Path, *, cold: bool) -> int:
    """Be the command, in place of the process that this is a copy of."""
    os.chdir(folder)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MOST_WRITTEN, MOST_WRITTEN))
    files = [
        os.open("stdin" if os.path.lexists("stdin") else os.devnull, os.O_RDONLY),
        os.open("stdout" if os.path.lexists("stdout") else place / "out", os.O_WRONLY | os.O_CREAT, 0o600),
        os.open(place / "err", os.O_WRONLY | os.O_CREAT, 0o600),
    ]
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    if cold and not case.python:
        _become([sys.executable, "-m", "specvlm", *case.argv])
    # Those of the parent may be anything, and know how they were opened.
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
        for number, mode in ((0, "r"), (1, "w"), (2, "w"))
    )
    sys.stderr.reconfigure(errors="backslashreplace", line_buffering=True)
    sys.argv = ["specvlm", *case.argv]
    try:
        _run(case)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _run(case: Case) -> None:
    if not case.python:
        from specvlm.cli import main

        main()
        return
    try:
        exec(case.python, {})
    except SpecVLMError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _become(command: list[str]) -> NoReturn:
    os.execv(command[0], command)


def _finished(code: int) -> int:
    """The exit code of a process that has said all it has to, as Python's own end would have it."""
    try:
        threading._shutdown()  # threads that aren't daemons are waited for, as ever
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        return 120
    return code


def _end_group(leader: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _text(file: Path) -> str:
    """What was written to a file, without the middle of what is long."""
    if not file.exists():
        return ""
    with file.open("rb") as content:
        head = content.read(MOST_READ)
        size = file.stat().st_size
        content.seek(max(MOST_READ, size - MOST_READ))
        return (head + content.read()).decode("utf-8", "replace")
