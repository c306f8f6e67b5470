"""specvlm report: runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specvlm.cli.options import Json
from specvlm.cli.outputs import require_file
from specvlm.cli.screen import console, waiting, warn, write_record

if TYPE_CHECKING:
    from specvlm.evals.run_folder import Run

DATA = ("config.json", "results.jsonl", "metrics.json")
"""Files of a run that no page may take the place of."""


def report(
    runs: Annotated[list[str], typer.Argument(metavar="DIR", help="Folders of runs, finished or not.")],
    html: Annotated[str | None, typer.Option(help="Also write a page with all of them to this file.")] = None,
    json: Json = False,
) -> None:
    """Compare runs: what they were asked differently, and their figures side by side.

    \b
    Examples:
      specvlm report run
      specvlm report run other-run --html runs.html
    """
    page = None
    if html:
        page = require_file(Path(html), "html", inputs=tuple(f"{run}/{name}" for run in runs for name in DATA))
    with waiting("Reading"):
        from specvlm.cli.tables import of_runs
        from specvlm.evals.reporting.metrics import metrics_of
        from specvlm.evals.reporting.report import differences, report_html
        from specvlm.evals.run_folder import read_run
        from specvlm.evals.writing import write_whole

        read = [read_run(path) for path in runs]
        metrics = [metrics_of(run) for run in read]
    if json:
        write_record([{"run": str(run.path), "metrics": found} for run, found in zip(read, metrics, strict=True)])
    out = console(stderr=json)
    names = [_which(run, [each.name for each in read]) for run in read]
    if different := differences(read):
        out.print("Asked differently:", style="bold")
        for what, values in different.items():
            told = (f"{value} in {name}" for value, name in zip(values, names, strict=True) if value is not None)
            out.print(f"{what}: {', '.join(told)}")
        out.print()
    if figures := _figures(read, metrics):
        out.print(of_runs(figures, out.width))
    for run, found in zip(read, metrics, strict=True):
        for line in run.notes:
            warn(line)
        if found["num_broken"]:
            warn(f"{run.name}: {found['num_broken']} of {found['num_samples']} samples are broken")
    if page is not None:
        write_whole(page, report_html(read))
        out.print(f"Report: {html}")


def _figures(runs: Sequence[Run], metrics: Sequence[dict[str, Any]]) -> dict[tuple[str, str, str], Any]:
    """What was measured of each arm that has answers, by its run, its setting and its name."""
    names = [run.name for run in runs]
    return {
        (_which(run, names), setting if len(found["settings"]) > 1 else "", arm): measured
        for run, found in zip(runs, metrics, strict=True)
        for setting, of in found["settings"].items()
        for arm, measured in of["arms"].items()
        if measured["num_answers"]
    }


def _which(run: Run, names: Sequence[str]) -> str:
    """The name of a run's folder; its path, if there is another folder of that name."""
    return run.name if names.count(run.name) == 1 else str(run.path)
