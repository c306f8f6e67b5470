"""The jobs of a sweep: done once, held against stock generate in another setting, and watched while they are done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, final

import torch

from specvlm.comparing.telling import told
from specvlm.evals.evaluate import Job, Record, Worker, measured_against
from specvlm.evals.run_folder import Run
from specvlm.evals.runner import Engine
from specvlm.evals.spans import footage
from specvlm.explain.reading import Reading, read

if TYPE_CHECKING:
    from specvlm.pipeline import SpecVLM


def local(load: Callable[[], SpecVLM]) -> Engine:
    """Jobs one after the other in this process; records also tell what of the video the draft was shown.

    Those of `ar` get `attention_per_frame`: the share of the target's attention to the video that each frame has. Those
    of drafts that were shown a part get `kept_per_frame` and `kept_per_stage`: counts of tokens. The target reads each
    video once more for that, after the answer, whose times are its own.
    """

    def engine(jobs: Sequence[Job]) -> Iterator[Record]:
        worker: Worker | None = None
        watcher: Watcher | None = None
        for job in jobs:
            if worker is None or watcher is None:
                vlm = load()
                worker, watcher = Worker(vlm), Watcher(vlm)
            for record in worker(job):
                yield record if record["error"] else record | watcher.seen(job, record)

    return engine


@final
class Watcher:
    """Knows what the target made of the last video that it was asked about."""

    def __init__(self, vlm: SpecVLM) -> None:
        self._vlm = vlm
        self._last: tuple[Any, Reading] | None = None

    def seen(self, job: Job, record: Record) -> Record:
        """What is to be added to the record of a job's answer."""
        try:
            return self._seen(job, record)
        except Exception as error:  # noqa: BLE001  # an answer that was given shall not be lost to a picture of it
            return {"unseen": told(error)}

    def _seen(self, job: Job, record: Record) -> Record:
        options = job.setting.options
        if record["arm"] == "ar":
            reading = self._reading(job)
            return {"attention_per_frame": reading.per_frame(reading.shares).tolist()}
        by_head = self._vlm.draft == "self" and options.self_scope == "head"
        if record["num_kept"] == record["num_video_tokens"] or by_head:
            return {}
        reading = self._reading(job)
        stages = reading.stages(options.make_pruner(), record["num_kept"])
        kept = torch.zeros(record["num_video_tokens"])
        kept[torch.cat(stages)] = 1
        return {
            "kept_per_frame": [int(count) for count in reading.per_frame(kept)],
            "kept_per_stage": [len(tokens) for tokens in stages],
        }

    def _reading(self, job: Job) -> Reading:
        of = (job.sample, job.setting.options.num_frames)
        if self._last is None or self._last[0] != of:
            options = job.setting.options
            if options.system is None:
                options = replace(options, system=job.sample.system)
            video, options, _ = footage(self._vlm, job.sample, options)
            self._last = of, read(self._vlm, video, job.sample.question, options)
        return self._last[1]


def compared(engine: Engine, so_far: Run) -> Engine:
    """The engine's records, held against what stock generate said to as many frames, if that is known by then."""
    frames = {setting["name"]: setting["options"]["num_frames"] for setting in so_far.config["asked"]["settings"]}
    oracles = {
        (frames[record["setting"]], record["sample"]): record
        for record in so_far.records
        if record["arm"] == "ar" and not record["error"]
    }

    def comparing(jobs: Sequence[Job]) -> Iterator[Record]:
        for record in engine(jobs):
            of = (frames[record["setting"]], record["sample"])
            if record["arm"] == "ar" and not record["error"]:
                oracles[of] = record
            yield record if record["error"] else record | measured_against(record, oracles.get(of))

    return comparing
