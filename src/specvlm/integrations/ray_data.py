"""An engine for runs on more than one machine or GPU: Ray Data's actors hold the pairs, each job is a task of its own.

The process that asks writes the run's folder, as ever, and nothing else does. So the records are those of the local
engine, in the order in which they are ready.
"""

from __future__ import annotations

import logging
import math
import os
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from specvlm.errors import OptionError, brief
from specvlm.evals.evaluate import Job, Record, Worker, failed
from specvlm.evals.runner import Engine, key_of
from specvlm.integrations.ray_attempts import Attempts
from specvlm.integrations.ray_head import require_ray, require_room, watched

if TYPE_CHECKING:
    from specvlm.pipeline import SpecVLM

LOCAL = "local"
"""The address of a Ray that is started for a run and ends with it."""

MAX_ATTEMPTS = 3
"""How often a job is begun whose actors die of it, or beside it, before it is given up."""

OBJECT_STORE = 128 * 2**20
"""Bytes for what is under way between processes: records are kilobytes, and videos and weights never travel."""


def ray_data(
    load: Callable[[], SpecVLM],
    *,
    address: str = LOCAL,
    num_actors: int = 1,
    num_gpus: float = 0.0,
    num_cpus: float = 1.0,
    on_gone: Callable[[OptionError], None] = lambda error: None,
) -> Engine:
    """Jobs on `num_actors` actors, each with the pair that `load` gives it, `num_gpus` GPUs and `num_cpus` CPUs.

    `address` is that of a running cluster ("auto": the one of this machine) or "local"; if this process is connected to
    Ray already, it stays so, and that is used. `load` is called on the actors' machines, and like the samples it has to
    be picklable. Relative paths are looked up in this process's working directory, where an actor's machine has it.

    An actor that dies is replaced, and its job begun again; a job that was begun `MAX_ATTEMPTS` times is recorded as
    broken. If the head of the Ray dies, `on_gone` is called with an OptionError, which is raised when it returns; but
    Ray may end the process before that, with exit code 1, so a command ends it here. Errors: OptionError, also for an
    actor that fits on no machine; and when jobs are done, whatever the local engine raises.
    """
    if num_actors < 1:
        raise OptionError(f"num_actors must be 1 or more, not {num_actors}")
    for name, number in (("num_gpus", num_gpus), ("num_cpus", num_cpus)):
        if number < 0:
            raise OptionError(f"{name} must be 0 or more, not {number}")
    try:
        import ray.data
        from ray.cloudpickle import cloudpickle
    except ImportError:
        raise OptionError("Ray Data isn't installed: pip install 'specvlm[ray]'") from None

    def engine(jobs: Sequence[Job]) -> Iterator[Record]:
        with ExitStack() as stack:
            if not ray.is_initialized():
                stack.enter_context(_connected(address, math.ceil(num_actors * num_cpus)))
            stack.enter_context(_quiet())
            require_room(num_gpus, num_cpus)
            watch = stack.enter_context(watched(_head(address), on_gone))
            attempts = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Attempts).remote()
            # One block a job: what comes back comes job by job, and what is lost with an actor is one job.
            parcels = [{"job": cloudpickle.dumps(job)} for job in jobs]
            rows = ray.data.from_items(parcels, override_num_blocks=len(parcels)).map_batches(
                Actor,
                fn_constructor_args=(load, str(Path.cwd()), attempts),
                batch_size=1,  # with GPUs, Ray Data wants a number
                # The next job waits for any actor, not for one: none idles while another has two.
                compute=ray.data.ActorPoolStrategy(size=num_actors, max_tasks_in_flight_per_actor=1),
                num_gpus=num_gpus,
                num_cpus=num_cpus,
            )
            rows.context.enable_progress_bars = False
            rows.context.print_on_execution_start = False
            # Closed before the connection is: its thread, if it were still at work, would begin another one.
            came: Any = iter(rows.iter_rows())
            stack.enter_context(closing(came))
            for record in gather(pickle.loads(row["answer"]) for row in came):
                with watch.elsewhere():
                    yield record

    return engine


def gather(answers: Iterable[list[Record] | Exception]) -> Iterator[Record]:
    """Each record once, even if a job was done twice. Errors: any that is among the answers."""
    seen = set()
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
        for record in answer:
            if key_of(record) not in seen:
                seen.add(key_of(record))
                yield record


@final
class Actor:
    """A pair of models in a process of its own. They are loaded by the first job, so that errors are an answer too."""

    def __init__(self, load: Callable[[], SpecVLM], folder: str, attempts: Any) -> None:
        self._load, self._attempts = load, attempts
        self._worker: Worker | None = None
        if Path(folder).is_dir():
            os.chdir(folder)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        return {"answer": [pickle.dumps(self._answer(pickle.loads(parcel))) for parcel in batch["job"]]}

    def _answer(self, job: Job) -> list[Record] | Exception:
        import ray

        name = (job.setting.name, job.sample.sample_id)
        attempt: Any = ray.get(self._attempts.begin.remote(name))
        if attempt > MAX_ATTEMPTS:
            return [failed(job, None, f"{MAX_ATTEMPTS} actors died while they were at it")]
        try:
            self._worker = self._worker or Worker(self._load())
            return list(self._worker(job))
        except Exception as error:  # noqa: BLE001  # raised again where somebody can act on it
            return error


@contextmanager
def _connected(address: str, num_cpus: int) -> Iterator[None]:
    """A connection to Ray for as long as it lasts; a local Ray lasts no longer."""
    import ray

    how: dict[str, Any] = {"address": address}
    if address == LOCAL:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # otherwise it reports to its makers over the network
        how |= {"num_cpus": num_cpus, "object_store_memory": OBJECT_STORE, "include_dashboard": False}
    else:
        # Of this process alone, of what Ray would write to standard error when a head dies, behind Python's back.
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        if address != LOCAL:
            require_ray(address)
        ray.init(**how, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:
        raise OptionError(f"there is no Ray at address {brief(repr(address))}: {brief(error)}") from None
    try:
        yield
    finally:
        ray.shutdown()


def _head(address: str) -> str:
    """Where the head of the Ray listens that this process is connected to."""
    import ray

    return address if address.startswith("ray://") else ray.get_runtime_context().gcs_address


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what Ray Data says about itself in its log file, and off the terminal."""
    handlers = [each for each in logging.getLogger("ray.data").handlers if isinstance(each, logging.StreamHandler)]
    levels = [handler.level for handler in handlers]
    for handler in handlers:
        handler.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for handler, level in zip(handlers, levels, strict=True):
            handler.setLevel(level)
