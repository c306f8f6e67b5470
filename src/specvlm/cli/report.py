"""specvlm report: runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from specvlm.cli.options import Json
from specvlm.cli.screen import console, waiting, warn, write_record

COLUMNS = (
    "answers",
    "identical to stock generate",
    "mean acceptance length",
    "tokens/s, decoding",
    "decode speedup",
    "end-to-end speedup",
)
"""Of what is said of a run, that by which runs are compared; a table's head is what stands before a comma."""


def report(
    runs: Annotated[list[str], typer.Argument(metavar="DIR", help="Folders of runs, finished or not.")],
    html: Annotated[str | None, typer.Option(help="Also write a page with all of them to this file.")] = None,
    json: Json = False,
) -> None:
    """Compare runs: what they were asked differently, and their figures side by side."""
    with waiting("Reading"):
        from rich.table import Table

        from specvlm.evals.figures import NOTES, figures, share
        from specvlm.evals.metrics import metrics_of
        from specvlm.evals.report import differences, report_html
        from specvlm.evals.run_folder import read_run
        from specvlm.evals.writing import write_whole

        read = [read_run(path) for path in runs]
        metrics = [metrics_of(run) for run in read]
    out = console(stderr=json)
    names = [run.path.resolve().name for run in read]
    if different := differences(read):
        table = Table("asked differently", *names)
        for what, values in different.items():
            table.add_row(what, *("" if value is None else str(value) for value in values))
        out.print(table)
    table = Table("run", "setting", "arm")
    for column in COLUMNS:
        table.add_column(column.partition(",")[0], justify="right")
    table.add_column("scores")
    for name, found in zip(names, metrics, strict=True):
        for setting, of in found["settings"].items():
            arms = {arm: measured for arm, measured in of["arms"].items() if measured["num_answers"]}
            shown = figures(arms)
            for place, (arm, measured) in enumerate(arms.items()):
                scores = ", ".join(f"{score} {share(value)}" for score, value in measured["scores"].items())
                table.add_row(name, setting, arm, *(shown[column][place] for column in COLUMNS), scores)
        if found["num_broken"]:
            warn(f"{name}: {found['num_broken']} of {found['num_samples']} samples are broken")
    out.print(table)
    out.print("\n".join(NOTES))
    if html:
        write_whole(Path(html), report_html(read))
        out.print(f"Report: {html}")
    if json:
        write_record([{"run": str(run.path), "metrics": found} for run, found in zip(read, metrics, strict=True)])
