"""The driver of a run on Ray, in a process that does nothing else: Ray may end it at any time, and it alone.

It is told what to do by its parent (`ray_child`) over a pipe, and says over it, in this order: the address of the head
as soon as it is connected, the answers of the actors, pickled, and when it has let go of Ray, how it ended. If it ends
without that, the Ray is gone; if the pipe ends before that, nobody waits for answers any more, and so it ends as well.

Neither models nor videos come here. What answers is pickled too, and unpacked where the actors are.
"""

from __future__ import annotations

import logging
import math
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, final

from specvlm.comparing.telling import told
from specvlm.errors import SpecVLMError
from specvlm.integrations.ray_attempts import Attempts
from specvlm.integrations.ray_head import ending_with, head_of, no_ray, require_room

LOCAL = "local"
"""The address of a Ray that is started for a run and ends with it."""

OBJECT_STORE = 128 * 2**20
"""Bytes for what is under way between processes: records are kilobytes, and videos and weights never travel."""

GRACE = 10.0
"""Seconds to let go of Ray in, once nobody waits any more."""


@final
@dataclass(frozen=True)
class Order:
    """What a driver shall do. `answering` is a pickled function: of a pickled job, and of how often it has been begun,
    to a pickled answer. `script` is the program that asks, if it is one: workers look for modules beside it."""

    address: str
    runtime_env: dict[str, Any] | None
    script: str | None
    answering: bytes
    jobs: tuple[bytes, ...]
    num_actors: int
    num_gpus: float
    num_cpus: float


@final
@dataclass(frozen=True)
class Connected:
    """Said when a Ray has taken the connection: where its head listens."""

    head: str


@final
@dataclass(frozen=True)
class Ended:
    """Said last. `error` is a pickled exception, or None."""

    error: bytes | None


def drive(parent: Connection) -> None:
    """All that this process is for."""
    os.set_inheritable(parent.fileno(), False)  # or else a process of Ray's would keep the pipe from ending
    order: Order = parent.recv()
    if order.script is not None:
        # Ray looks at these two.
        sys.modules["__main__"].__file__ = sys.argv[0] = order.script
    signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored in what is started in the background
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()
    error: Exception | None = None
    try:
        with _connected(order) as head, ending_with(head):
            parent.send(Connected(head))
            require_room(order.num_gpus, order.num_cpus)
            with closing(_answers(order)) as answers:
                for answer in answers:
                    parent.send(answer)
    except Exception as raised:  # noqa: BLE001  # raised again where somebody can act on it
        error = raised
    with suppress(ConnectionError):  # where nobody waits
        parent.send(Ended(None if error is None else packed(error)))


def _end_with_parent(parent: Connection) -> None:
    """Nothing more comes from there but the end: interrupt the main thread then, and if that doesn't help, end."""
    with suppress(EOFError, OSError):
        parent.recv()
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    time.sleep(GRACE)
    os._exit(1)


@contextmanager
def _connected(order: Order) -> Iterator[str]:
    """A connection to Ray for as long as it lasts; a local Ray lasts no longer. Yields where its head listens."""
    import ray

    how: dict[str, Any] = {"address": order.address, "runtime_env": order.runtime_env}
    if order.address == LOCAL:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # otherwise it reports to its makers over the network
        how |= {
            "num_cpus": math.ceil(order.num_actors * order.num_cpus),
            "object_store_memory": OBJECT_STORE,
            "include_dashboard": False,
        }
    try:
        ray.init(**how, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # noqa: BLE001  # Ray has many for this
        raise no_ray(order.address, error) from None
    try:
        yield head_of(order.address)
    finally:
        ray.shutdown()


def _answers(order: Order) -> Generator[bytes, None, None]:
    """The answers to the jobs, in the order in which they are ready."""
    import ray.data

    attempts = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Attempts).remote()
    # One block a job: what comes back comes job by job, and what is lost with an actor is one job.
    parcels = [{"number": number, "job": job} for number, job in enumerate(order.jobs)]
    rows = ray.data.from_items(parcels, override_num_blocks=len(parcels)).map_batches(
        Actor,
        fn_constructor_args=(order.answering, str(Path.cwd()), attempts),
        batch_size=1,  # with GPUs, Ray Data wants a number
        # The next job waits for any actor, not for one: none idles while another has two.
        compute=ray.data.ActorPoolStrategy(size=order.num_actors, max_tasks_in_flight_per_actor=1),
        num_gpus=order.num_gpus,
        num_cpus=order.num_cpus,
    )
    rows.context.enable_progress_bars = False
    rows.context.print_on_execution_start = False
    # Closed before the connection is: its thread, if it were still at work, would begin another one.
    came: Any = iter(rows.iter_rows())
    with closing(came):
        for row in came:
            yield row["answer"]


@final
class Actor:
    """What answers, in a process of its own. It is unpacked by the first job, so that errors are an answer too."""

    def __init__(self, answering: bytes, folder: str, attempts: Any) -> None:
        self._packed, self._attempts = answering, attempts
        self._answer: Any = None
        if Path(folder).is_dir():
            os.chdir(folder)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        import ray

        numbers = [int(number) for number in batch["number"]]
        begun: list[Any] = ray.get([self._attempts.begin.remote(number) for number in numbers])
        return {"answer": [self._try(job, times) for job, times in zip(batch["job"], begun, strict=True)]}

    def _try(self, job: bytes, times: int) -> bytes:
        try:
            self._answer = self._answer or pickle.loads(self._packed)
            return self._answer(job, times)
        except Exception as error:  # noqa: BLE001  # raised again where somebody can act on it
            return pickle.dumps(error)


def packed(error: Exception) -> bytes:
    """An exception, pickled; where it can't be, one that says the same. With what should not happen goes where it
    did."""
    from ray.cloudpickle import cloudpickle

    where = "".join(traceback.format_exception(error))
    try:
        parcel = cloudpickle.dumps(error)
        pickle.loads(parcel)
    except Exception:  # noqa: BLE001  # any class may be one that can't
        error = RuntimeError(told(error))
    if not isinstance(error, SpecVLMError):
        error.add_note(where)
    return cloudpickle.dumps(error)
