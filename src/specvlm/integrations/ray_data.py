"""An engine for runs on more than one machine or GPU: Ray Data's actors hold the pairs, each job is a task of its own.

The process that asks writes the run's folder, as ever, and nothing else does. So the records are those of the local
engine, in the order in which they are ready. Ray's driver is a child of it (`ray_child`).
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, final

from specvlm.errors import OptionError
from specvlm.evals.evaluate import Job, Record, Worker, failed
from specvlm.evals.runner import Engine, key_of
from specvlm.integrations.ray_child import answers_to
from specvlm.integrations.ray_driver import LOCAL, Order
from specvlm.integrations.ray_head import head_of, require_listener

if TYPE_CHECKING:
    from specvlm.pipeline import SpecVLM

MAX_ATTEMPTS = 3
"""How often a job is begun whose actors die of it, or beside it, before it is given up."""


def ray_data(
    load: Callable[[], SpecVLM],
    *,
    address: str = LOCAL,
    num_actors: int = 1,
    num_gpus: float = 0.0,
    num_cpus: float = 1.0,
) -> Engine:
    """Jobs on `num_actors` actors, each with the pair that `load` gives it, `num_gpus` GPUs and `num_cpus` CPUs.

    `address` is that of a running cluster ("auto": the one of this machine) or "local"; if this process is connected to
    Ray already, it stays so, and that is used. `load` is called on the actors' machines, and like the samples it has to
    be picklable. Relative paths are looked up in this process's working directory, where an actor's machine has it.

    This process doesn't connect to Ray; a child does, which ends with the iterator of records, or with this process.
    An actor that dies is replaced, and its job begun again; a job that was begun `MAX_ATTEMPTS` times is recorded as
    broken. Errors: OptionError, also for an actor that fits on no machine, and if the Ray dies; and when jobs are done,
    whatever the local engine raises.
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
        at, runtime_env = address, None
        if ray.is_initialized():
            at, runtime_env = head_of(address), dict(ray.get_runtime_context().runtime_env) or None
        elif address not in (LOCAL, "auto"):
            require_listener(address)
        order = Order(
            address=at,
            runtime_env=runtime_env,
            script=sys.argv[0] if hasattr(sys.modules["__main__"], "__file__") else None,
            answering=cloudpickle.dumps(Answering(load)),
            jobs=tuple(cloudpickle.dumps(job) for job in jobs),
            num_actors=num_actors,
            num_gpus=num_gpus,
            num_cpus=num_cpus,
        )
        with closing(answers_to(order)) as answers:
            yield from gather(pickle.loads(answer) for answer in answers)

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
class Answering:
    """What an actor does: a pair of models, loaded by the first job, does jobs."""

    def __init__(self, load: Callable[[], SpecVLM]) -> None:
        self._load = load
        self._worker: Worker | None = None

    def __call__(self, parcel: bytes, attempt: int) -> bytes:
        """The pickled records of a pickled job that is begun for the `attempt`-th time. Errors: the local engine's."""
        job: Job = pickle.loads(parcel)
        if attempt > MAX_ATTEMPTS:
            return pickle.dumps([failed(job, None, f"{MAX_ATTEMPTS} actors died while they were at it")])
        self._worker = self._worker or Worker(self._load())
        return pickle.dumps(list(self._worker(job)))
