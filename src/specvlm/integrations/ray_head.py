"""The head of a Ray: whether there is one at an address, whether it has room, and whether it is still there.

Ray itself looks for a head that isn't there for a quarter of an hour. When one dies, it ends the process that asked,
within a minute, with exit code 1 and no exception.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, final

from specvlm.errors import OptionError, brief

ANSWERS_WITHIN = 60.0
"""Seconds in which a Ray has to take a connection."""
PATIENCE, PERIOD = 4.0, 1.0
"""Seconds: so long a head may be silent, and so often it is looked at. Where the process of its machine died as well,
Ray ends ours within a quarter of a minute."""

ASK = "import logging, sys, ray; ray.init(address=sys.argv[1], log_to_driver=False, logging_level=logging.ERROR)"


def require_ray(address: str) -> None:
    """Errors: OptionError where no Ray takes a connection, which another process tries: it can be ended in time."""
    try:
        if address != "auto":
            _knock(address)
        command = [sys.executable, "-c", ASK, address]
        asked = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=ANSWERS_WITHIN, text=True, errors="replace"
        )
    except subprocess.TimeoutExpired:
        raise OptionError(
            f"there is no Ray at address {brief(repr(address))}: nobody answered as one in {ANSWERS_WITHIN:.0f} s"
        ) from None
    except (OSError, ValueError) as error:
        raise OptionError(f"there is no Ray at address {brief(repr(address))}: {brief(error)}") from None
    if asked.returncode:
        reason = brief((asked.stderr.strip().splitlines() or ["it ended at once"])[-1])
        raise OptionError(f"there is no Ray at address {brief(repr(address))}: {reason}")


def require_room(num_gpus: float, num_cpus: float) -> None:
    """Errors: OptionError if an actor fits on no machine of the Ray that this process is connected to."""
    import ray

    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(has.get("GPU", 0) >= num_gpus and has.get("CPU", 0) >= num_cpus for has in machines):
        there = ", ".join(f"{has.get('GPU', 0):g} GPUs and {has.get('CPU', 0):g} CPUs" for has in machines)
        raise OptionError(
            f"an actor of {num_gpus:g} GPUs and {num_cpus:g} CPUs fits on no machine of this Ray, and would be waited "
            f"for without end: there are {brief(there) or 'none'}"
        )


class HeadGoneError(BaseException):
    """Raised in the main thread, past whoever keeps exceptions for himself there."""


@final
class Watch:
    """Looks at a head from a thread, and raises where it is waited for."""

    def __init__(self, address: str, on_gone: Callable[[OptionError], None]) -> None:
        self.address, self.gone, self._on_gone = address, False, on_gone
        self._waited_for, self._turn, self._end = True, threading.Lock(), threading.Event()

    @contextmanager
    def elsewhere(self) -> Iterator[None]:
        """While the head isn't waited for, nothing is raised; at the end, what was noticed meanwhile is."""
        with self._turn:
            self._waited_for = False
        yield
        with self._turn:
            self._waited_for = True
        if self.gone:
            self.leave()

    def leave(self) -> None:
        """Errors: HeadGoneError, in any case."""
        self._on_gone(self.error)
        raise HeadGoneError

    @property
    def error(self) -> OptionError:
        return OptionError(
            f"the Ray at {brief(self.address)} is gone: start it, and then the run again, which goes on where it was"
        )

    def look(self) -> None:
        """Until the watch is over, or the head is gone."""
        seen = time.monotonic()
        while not self._end.wait(PERIOD):
            if is_there(self.address):
                seen = time.monotonic()
            elif time.monotonic() - seen > PATIENCE:
                with self._turn:
                    self.gone = True
                    if self._waited_for:
                        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
                return

    def end(self) -> None:
        self._end.set()


@contextmanager
def watched(address: str, on_gone: Callable[[OptionError], None]) -> Iterator[Watch]:
    """Where a head is gone, `on_gone` is called with the error, which is raised if it returns. But Ray Data may take
    longer to let go of such a head than Ray takes to end the process. Only the main thread can be woken, and only by a
    system that has such signals; elsewhere, Ray does what it does. Errors: OptionError."""
    watch = Watch(address, on_gone)
    can = hasattr(signal, "pthread_kill") and threading.current_thread() is threading.main_thread()
    if not can or not is_there(address):  # where nobody listens now, silence tells nothing later
        yield watch
        return

    def wake(*_: Any) -> None:
        watch.leave()

    before = signal.signal(signal.SIGUSR1, wake)
    thread = threading.Thread(target=watch.look, daemon=True)
    thread.start()
    try:
        yield watch
    except HeadGoneError:
        raise watch.error from None
    finally:
        watch.end()
        thread.join()
        signal.signal(signal.SIGUSR1, before)


def is_there(address: str) -> bool:
    """Whether anybody listens there."""
    try:
        _knock(address, 5.0)  # time for a lost packet to be sent again
    except (OSError, ValueError):
        return False
    return True


def _knock(address: str, seconds: float = 10.0) -> None:
    """Errors: OSError where nobody listens; ValueError for what is no address."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    socket.create_connection((host, int(port)), timeout=seconds).close()
