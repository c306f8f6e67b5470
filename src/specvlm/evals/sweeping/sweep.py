"""A sweep: a grid of settings as one run, which can be killed and resumed like any other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from specvlm.comparing.telling import told
from specvlm.evals.digests import require_unchanged
from specvlm.evals.evaluate import Record
from specvlm.evals.experiment import Experiment, session
from specvlm.evals.run_folder import METRICS, REPORT, Run, open_run
from specvlm.evals.runner import Engine, pending, run
from specvlm.evals.sweeping.engine import compared
from specvlm.evals.sweeping.metrics import sweep_metrics
from specvlm.evals.sweeping.plots import pictures
from specvlm.evals.sweeping.report import sweep_html
from specvlm.evals.writing import inside, require_own_folder, write_whole
from specvlm.video.files.addresses import at_home

PLOTS = "plots"
"""The folder of the pictures, in that of the run."""


def carry_out(
    experiment: Experiment,
    out: Path | str,
    engine: Engine,
    *,
    retry_broken: bool = False,
    on_begin: Callable[[int], None] = lambda left: None,
    on_record: Callable[[Record], None] = lambda record: None,
    on_note: Callable[[str], None] = lambda note: None,
) -> Run:
    """As `Experiment.carry_out`, with the metrics, the report and the pictures of a sweep. Errors: OptionError."""
    out = at_home(out)
    task = experiment.task_in(out)
    with open_run(out, experiment.asked(), session(), experiment.grows()) as folder:
        require_own_folder(out / PLOTS)
        samples = task.samples(experiment.num_samples, experiment.order_seed)
        require_unchanged(samples, folder.records, experiment.num_samples)
        if note := task.passed_over():
            on_note(note)
        for line in folder.as_run().notes:
            on_note(line)
        jobs = pending(samples, experiment.settings, folder.records, retry_broken=retry_broken)
        on_begin(sum(len(job.arms) if job.sample.problem is None else 1 for job in jobs))
        run(folder, task, samples, jobs, compared(engine, folder.as_run()), on_record=on_record)
        finished = folder.as_run()
        metrics = sweep_metrics(finished)
        folder.write(METRICS, json.dumps(metrics, indent=2, ensure_ascii=False) + "\n")
        try:
            drawn = pictures(metrics)
        except Exception as error:  # noqa: BLE001  # what was measured is written, and shall be told
            drawn = []
            on_note(f"the pictures couldn't be drawn: {told(error)}")
        try:
            folder.write(REPORT, sweep_html(finished, metrics, drawn))
            for picture in drawn:
                write_whole(inside(out / PLOTS, f"{picture.name}.png"), picture.png)
                write_whole(inside(out / PLOTS, f"{picture.name}-dark.png"), picture.dark_png)
        except Exception as error:  # noqa: BLE001  # as above
            on_note(f"{REPORT} couldn't be written: {told(error)}")
    return finished
