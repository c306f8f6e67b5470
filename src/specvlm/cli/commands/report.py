"""specvlm report: runs side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specvlm.cli.options import Json
from specvlm.cli.outputs import require_file
from specvlm.cli.screen import console, waiting, warn, write_record

if TYPE_CHECKING:
    from rich.table import Table

    from specvlm.evals.run_folder import Run

DATA = ("config.json", "results.jsonl", "metrics.json")
"""Files of a run that no page may take the place of."""

MOST_COLUMNS = 6
"""Of a table that fits a terminal; more arms make more tables."""


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
        from specvlm.evals.reporting.figures import DEFINITIONS
        from specvlm.evals.reporting.metrics import metrics_of
        from specvlm.evals.reporting.report import differences, report_html
        from specvlm.evals.run_folder import read_run
        from specvlm.evals.writing import write_whole

        read = [read_run(path) for path in runs]
        metrics = [metrics_of(run) for run in read]
    if json:
        write_record([{"run": str(run.path), "metrics": found} for run, found in zip(read, metrics, strict=True)])
    out = console(stderr=json)
    if different := differences(read):
        out.print(_of_differences(read, different))
    for table in _of_figures(read, metrics):
        out.print(table)
    out.print("\n".join(DEFINITIONS))
    for run, found in zip(read, metrics, strict=True):
        if found["num_broken"]:
            warn(f"{run.name}: {found['num_broken']} of {found['num_samples']} samples are broken")
    if page is not None:
        write_whole(page, report_html(read))
        out.print(f"Report: {html}")


def _of_differences(runs: Sequence[Run], different: dict[str, list[Any]]) -> Table:
    from rich.table import Table

    table = Table("asked differently", *(run.name for run in runs))
    for what, values in different.items():
        table.add_row(what, *("" if value is None else str(value) for value in values))
    return table


def _of_figures(runs: Sequence[Run], metrics: Sequence[dict[str, Any]]) -> Iterator[Table]:
    """One column for each arm of each run."""
    from rich.table import Table

    from specvlm.evals.reporting.figures import figures

    names = [run.name for run in runs]
    columns = {
        "\n".join([_which(run, names), *([setting] if len(found["settings"]) > 1 else []), arm]): measured
        for run, found in zip(runs, metrics, strict=True)
        for setting, of in found["settings"].items()
        for arm, measured in of["arms"].items()
        if measured["num_answers"]
    }
    heads = list(columns)
    for start in range(0, len(heads), MOST_COLUMNS):
        shown = heads[start : start + MOST_COLUMNS]
        table = Table("")
        for head in shown:
            table.add_column(head, justify="right")
        for title, values in figures({head: columns[head] for head in shown}).items():
            table.add_row(title, *values, style="bold" if "speedup" in title else None)
        yield table


def _which(run: Run, names: Sequence[str]) -> str:
    """The name of a run's folder; its path, if there is another folder of that name."""
    return run.name if names.count(run.name) == 1 else str(run.path)
