"""run: every sample in every setting and arm that isn't recorded yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from specvlm.comparing.telling import told
from specvlm.errors import OptionError, SpecVLMError
from specvlm.evals.digests import ROW, digest
from specvlm.evals.evaluate import Job, Record, Worker, failed
from specvlm.evals.run_folder import RunFolder
from specvlm.evals.sample import Sample
from specvlm.evals.settings import Setting
from specvlm.evals.tasks import Task

if TYPE_CHECKING:
    from specvlm.pipeline import SpecVLM

Engine = Callable[[Sequence[Job]], Iterator[Record]]
"""Does jobs and yields their records, in any order: here, or on other machines."""


def run(
    folder: RunFolder,
    task: Task,
    samples: Sequence[Sample],
    jobs: Sequence[Job],
    engine: Engine,
    *,
    on_record: Callable[[Record], None] = lambda record: None,
) -> None:
    """Do the jobs that are left of a run; each record is graded and on the disk before the next one is made.

    `on_record` is told each new record. Errors: OptionError if answers can't be graded here, or if the file of records
    is taken away meanwhile.
    """
    by_id = {sample.sample_id: sample for sample in samples}
    rows = {job.sample.sample_id: digest(job.sample) for job in jobs}  # as they were when they were read

    def keep(record: Record) -> None:
        record = record | {ROW: rows[record["sample"]]} | _graded(task, by_id[record["sample"]], record)
        try:
            folder.append(record)
        except SpecVLMError:  # the folder's, and of no record
            raise
        except (ValueError, TypeError, RecursionError) as error:  # a figure that JSON has no word for
            record = {name: record[name] for name in ("setting", "sample", "arm", "time")}
            record |= {"error": told(error), "scores": {}}
            folder.append(record)
        on_record(record)

    askable = []
    for job in jobs:
        problem = job.sample.problem or _ungradable(task, job.sample)  # a library that is missing shall be missed now
        if problem is None:
            askable.append(job)
        else:
            keep(failed(job, None, problem))
    if askable:
        for record in engine(askable):
            keep(record)


def _graded(task: Task, sample: Sample, record: Record) -> Record:
    """The scores of an answer, or why it has none."""
    if record["error"]:
        return {"scores": {}}
    try:
        return {"scores": {name: list(points) for name, points in task.score(sample, record["text"]).items()}}
    except Exception as error:  # noqa: BLE001  # the answers of other samples shall not be lost to this one's
        return {"scores": {}, "error": f"the answer can't be graded: {told(error)}"}


def _ungradable(task: Task, sample: Sample) -> str | None:
    """Why no answer to a sample could be graded. Errors: OptionError for what no sample could be graded without."""
    try:
        task.score(sample, "")
    except OptionError:
        raise
    except Exception as error:  # noqa: BLE001  # as above
        return f"answers can't be graded: {told(error)}"
    return None


def pending(
    samples: Sequence[Sample], settings: Sequence[Setting], records: Sequence[Record], *, retry_broken: bool = False
) -> list[Job]:
    """What has no record yet, sample by sample. What was recorded as broken stays so, unless `retry_broken`."""
    known = {key_of(record): record for record in records if not (retry_broken and record["error"])}
    jobs = []
    for sample in samples:
        for setting in settings:
            if (setting.name, sample.sample_id, None) in known:
                continue
            arms = tuple(arm for arm in setting.arms if (setting.name, sample.sample_id, arm) not in known)
            oracle = known.get((setting.name, sample.sample_id, "ar"))
            if oracle is not None and oracle["error"]:
                oracle = None
            if arms:
                jobs.append(Job(sample, setting, arms, oracle))
    return jobs


def key_of(record: Record) -> tuple[str, str, str | None]:
    """What a record is of; of two with the same key, the later counts."""
    return record["setting"], record["sample"], record["arm"]


def local(load: Callable[[], SpecVLM]) -> Engine:
    """Jobs one after the other in this process. The models are loaded by the first of them."""

    def engine(jobs: Sequence[Job]) -> Iterator[Record]:
        worker: Worker | None = None
        for job in jobs:
            worker = worker or Worker(load())
            yield from worker(job)

    return engine
