"""The head of a Ray: whether there is one at an address, whether it has room, and whether it is still there.

Ray itself looks for a head that isn't there for a quarter of an hour. When one dies, it ends the driver, at once or
within a minute, with exit code 1 and no exception. So drivers are processes of their own (`ray_driver`).
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from specvlm.errors import OptionError, brief

PATIENCE, PERIOD = 4.0, 1.0
"""Seconds: so long a head may be silent, and so often it is looked at."""


def no_ray(address: str, reason: object) -> OptionError:
    """The error of an address where no Ray is to be had."""
    return OptionError(f"there is no Ray at address {brief(repr(address))}: {brief(reason)}")


def require_listener(address: str) -> None:
    """Errors: OptionError where nobody listens."""
    try:
        _knock(address)
    except (OSError, ValueError) as error:
        raise no_ray(address, error) from None


def head_of(address: str) -> str:
    """Where the head of the Ray listens that this process is connected to; `address` is what it was told."""
    import ray

    return address if address.startswith("ray://") else ray.get_runtime_context().gcs_address


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


@contextmanager
def ending_with(address: str) -> Iterator[None]:
    """End this process without a word, as Ray does, if the head at an address goes while the block runs."""
    if not is_there(address):  # where nobody listens now, silence tells nothing later
        yield
        return
    over = threading.Event()
    watch = threading.Thread(target=_end_with, args=(address, over), daemon=True)
    watch.start()
    try:
        yield
    except Exception:
        if not is_there(address):  # of a head that is gone, Ray tells in many ways
            os._exit(1)
        raise
    finally:
        over.set()
        watch.join()


def _end_with(address: str, over: threading.Event) -> None:
    seen = time.monotonic()
    while not over.wait(PERIOD):
        if is_there(address):
            seen = time.monotonic()
        elif time.monotonic() - seen > PATIENCE:
            os._exit(1)
