"""A child process that is the driver of a run on Ray, as its parent sees it.

Where Ray loses its head, or what it runs on a driver's machine, it ends the driver there and then. So the process that
asks never is one: it waits for a child, whose end it can tell of.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Generator
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from tempfile import TemporaryFile
from typing import IO

from specvlm.errors import OptionError, brief
from specvlm.integrations.ray_driver import GRACE, LOCAL, Connected, Ended, Order
from specvlm.integrations.ray_head import no_ray

ANSWERS_WITHIN = 60.0
"""Seconds in which a Ray that somebody else has started has to take a connection."""

BOOT = (
    "import sys; from multiprocessing.connection import Connection; parent = Connection(int(sys.argv[1])); "
    "sys.path[:] = parent.recv(); from specvlm.integrations.ray_driver import drive; drive(parent)"
)
"""What the child runs: it finds modules where its parent does."""


def answers_to(order: Order) -> Generator[bytes, None, None]:
    """What the actors answer, pickled. The child ends when the iterator is closed, and when this process dies.

    Errors: OptionError if there is no Ray, if it has no room, or if it is gone; and what else the driver raises.
    """
    line, theirs = Pipe()
    # Ray is noisy, and a file never has to be read.
    with line, TemporaryFile() as noise:
        with theirs:
            child = _start(theirs, noise)
        head: str | None = None
        try:
            with suppress(ConnectionError):  # it is dead, and what comes next tells so
                line.send(sys.path)
                line.send(order)
            if order.address != LOCAL and not line.poll(ANSWERS_WITHIN):
                child.kill()
                raise no_ray(order.address, f"nobody answered as one in {ANSWERS_WITHIN:.0f} s")
            while not isinstance(said := _hear(line), Ended):
                if isinstance(said, Connected):
                    head = said.head
                elif said is not None:
                    yield said
                elif head is not None:
                    raise _gone(order.address, head)
                else:
                    child.wait()
                    raise no_ray(order.address, _last_line(noise))
            if said.error is not None:
                raise pickle.loads(said.error)
        finally:
            line.close()
            _end(child)


def _start(theirs: Connection, noise: IO[bytes]) -> subprocess.Popen[bytes]:
    fd = theirs.fileno()
    python = [sys.executable, "-P"]  # -P: no module of its folder's stands before Python's own
    return subprocess.Popen(
        [*python, "-c", BOOT, str(fd)],
        pass_fds=[fd],
        stdin=subprocess.DEVNULL,
        stdout=noise,
        stderr=noise,
        start_new_session=True,  # Ctrl-C is for its parent, which ends it
    )


def _hear(line: Connection) -> bytes | Connected | Ended | None:
    """What the child says next; None if it has ended without a word, or in the middle of one."""
    try:
        return line.recv()
    except (EOFError, OSError):
        return None


def _gone(address: str, head: str) -> OptionError:
    if address == LOCAL:
        return OptionError("the Ray of this run is gone: start the run again, which goes on where it was")
    return OptionError(
        f"the Ray at {brief(head)} is gone: start it, and then the run again, which goes on where it was"
    )


def _last_line(noise: IO[bytes]) -> str:
    noise.seek(0)
    lines = noise.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it ended at once"


def _end(child: subprocess.Popen[bytes]) -> None:
    """Once nothing more is said to it: it lets go of Ray, or is killed."""
    try:
        with suppress(subprocess.TimeoutExpired):
            child.wait(GRACE + 5.0)
    finally:  # whoever presses Ctrl-C again doesn't wait
        child.kill()
        child.wait()
