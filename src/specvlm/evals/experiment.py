"""Experiment: what a run is asked, and how it is carried out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import Any, final

from specvlm.comparing.telling import told
from specvlm.errors import OptionError, brief
from specvlm.evals.digests import require_unchanged
from specvlm.evals.evaluate import Record
from specvlm.evals.reporting.metrics import metrics_of
from specvlm.evals.reporting.report import report_html
from specvlm.evals.run_folder import METRICS, REPORT, Run, open_run
from specvlm.evals.runner import Engine, pending, run
from specvlm.evals.schema import FORMAT
from specvlm.evals.settings import Setting
from specvlm.evals.tasks import TASKS, Task, make_task
from specvlm.machine import machine, versions
from specvlm.video.files.addresses import at_home


@final
@dataclass(frozen=True, kw_only=True)
class Experiment:
    """All that a run is asked. Two runs that were asked the same are the same run.

    `task_options` are the fields of the task, `models` whatever `specvlm.load` is called with. Errors: OptionError.
    """

    task: str
    settings: tuple[Setting, ...]
    models: Mapping[str, Any] = field(default_factory=dict)
    task_options: Mapping[str, Any] = field(default_factory=dict)
    num_samples: int | None = None
    order_seed: int | None = None

    def __post_init__(self) -> None:
        if self.num_samples is not None and self.num_samples < 1:
            raise OptionError(f"num_samples must be 1 or more, not {self.num_samples}")
        names = [setting.name for setting in self.settings]
        if len(set(names)) < len(names):
            raise OptionError(f"two settings have the same name: {', '.join(names)}")

    def asked(self) -> dict[str, Any]:
        """All of it, ready for `json.dumps`."""
        which = {"num_samples": self.num_samples, "order_seed": self.order_seed}
        return {
            "format": FORMAT,
            "task": {"name": self.task, **self.task_options, **which},
            "models": dict(self.models),
            "settings": [setting.to_json() for setting in self.settings],
        }

    def grows(self) -> dict[str, float]:
        """What may be more when the run goes on, by its path in `asked`, and how many None is."""
        usual = TASKS[self.task].usual_num_samples if self.task in TASKS else None
        return {"task.num_samples": inf if usual is None else float(usual)}

    def carry_out(
        self,
        out: Path | str,
        engine: Engine,
        *,
        retry_broken: bool = False,
        on_begin: Callable[[int], None] = lambda left: None,
        on_record: Callable[[Record], None] = lambda record: None,
        on_note: Callable[[str], None] = lambda note: None,
    ) -> Run:
        """Begin this run in a folder, or go on with it there, also with fewer samples than are asked for now; at the
        end, its metrics and its report are written anew.

        `on_begin` is told how many records are missing, at the most; `on_record`, each that is made; `on_note`, in a
        line each, what of the data was passed over, which records can't be read, what videos lack, and why there is no
        report.
        Errors: OptionError.
        """
        out = at_home(out)
        task = self.task_in(out)
        with open_run(out, self.asked(), session(), self.grows()) as folder:
            samples = task.samples(self.num_samples, self.order_seed)
            require_unchanged(samples, folder.records, self.num_samples)
            if note := task.passed_over():
                on_note(note)
            for line in folder.as_run().notes:
                on_note(line)
            jobs = pending(samples, self.settings, folder.records, retry_broken=retry_broken)
            on_begin(sum(len(job.arms) if job.sample.problem is None else 1 for job in jobs))
            run(folder, task, samples, jobs, engine, on_record=on_record)
            finished = folder.as_run()
            for line in dict.fromkeys(line for record in finished.records for line in record.get("damage", ())):
                on_note(line)
            folder.write(METRICS, json.dumps(metrics_of(finished), indent=2, ensure_ascii=False) + "\n")
            try:
                folder.write(REPORT, report_html([finished]))
            except Exception as error:  # noqa: BLE001  # what was measured is written, and shall be told
                on_note(f"{REPORT} couldn't be written: {told(error)}")
        return finished

    def task_in(self, out: Path) -> Task:
        """The task whose data is where it was said to be or, if the task makes it itself, in the run's folder."""
        options = dict(self.task_options)
        makes_data = self.task in TASKS and TASKS[self.task].makes_data
        if makes_data and not options.get("data"):
            if (out / "data").is_symlink():
                raise OptionError(f"{brief(out / 'data')} is a link, and no films are put where it leads: remove it")
            options["data"] = str(out / "data")
        return make_task(self.task, **options)


def session() -> dict[str, Any]:
    """When, where and with what a run is worked at."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"started": now, "machine": machine(), "versions": versions()}
