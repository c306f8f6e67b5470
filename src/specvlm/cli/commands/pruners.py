"""specvlm pruners: the ways to choose the video tokens that the draft sees."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from specvlm.cli.options import Json
from specvlm.cli.screen import console, waiting, write_record


def pruners(json: Json = False) -> None:
    """List the pruners: their options, what they need of the target, and how they choose.

    \b
    Examples:
      specvlm pruners
    """
    with waiting("Loading"):
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        from specvlm.pruning import PRUNERS

    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "options": {field.name: field.default for field in fields(pruner)},  # type: ignore[arg-type]
            "needs": [what for what in ("scores", "features") if getattr(pruner, f"needs_{what}")],
            "summary": pruner.summary(),
        }
        for name, pruner in PRUNERS.items()
    ]
    if json:
        write_record(rows)
        return
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("name", no_wrap=True)
    for column in ("options", "needs", "how it chooses"):
        table.add_column(column, overflow="fold")
    for row in rows:
        options = ", ".join(f"{name}={default!r}" for name, default in row["options"].items())
        table.add_row(row["name"], options, ", ".join(row["needs"]), row["summary"])
    screen = console(stderr=False)
    screen.print(table)
    screen.print("Needs: scores, the target's text-to-video attention; features, its video embeddings.")
    screen.print("Options are given as in --pruner \"window(where='back')\".")
