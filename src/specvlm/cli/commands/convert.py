"""specvlm convert: a run in the form of another tool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from specvlm.cli.screen import waiting, warn


def convert(
    run: Annotated[str, typer.Argument(metavar="DIR", help="The folder of a run.")],
    to: Annotated[
        Literal["paper", "spec-bench"],
        typer.Option(help="`paper`: results.jsonl and metric.jsonl of SpecVLM's own code; `spec-bench`."),
    ],
    out: Annotated[
        str | None, typer.Option(help="The folder to write to (default: one named after the form, in DIR).")
    ] = None,
) -> None:
    """Write a run as SpecVLM's own code does, or as Spec-Bench reads it. Prints the files.

    \b
    Examples:
      specvlm convert run --to paper
    """
    with waiting("Converting"):
        from specvlm.evals.reporting.convert import convert as write
        from specvlm.evals.run_folder import read_run

        read = read_run(run)
        files = write(read, to, Path(out) if out else None)
    for line in read.notes:
        warn(line)
    for file in files:
        print(file)
