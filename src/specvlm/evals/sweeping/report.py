"""The report of a sweep, as a page of HTML that needs nothing beside it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from specvlm.evals.reporting.figures import DEFINITIONS, times
from specvlm.evals.reporting.report import new_environment
from specvlm.evals.run_folder import Run
from specvlm.evals.sweeping.plots import Picture

COLUMNS = {
    "frames": lambda point: "" if point["frames"] is None else str(point["frames"]),
    "tree": lambda point: point["tree"] or "",
    "pruner": lambda point: point["pruner"] or ("stock generate" if point["tree"] is None else "none"),
    "ratio": lambda point: "" if point["tree"] is None else f"{point['ratio']:g}",
    "kept": lambda point: f"{point['num_kept']:.0f}/{point['num_video_tokens']:.0f}",
    "stage I": lambda point: f"{100 * point['kept_by_stage'][0]:.0f} %" if len(point["kept_by_stage"]) > 1 else "",
    "identical": lambda point: "" if point["identical"] is None else f"{point['identical']} of {point['num_answers']}",
    "acceptance": lambda point: f"{point['mean_acceptance_length']:.2f}",
    "decode": lambda point: times(point["decode_speedup"]),
    "end to end": lambda point: times(point["end_to_end_speedup"]),
}
NAMING = ("frames", "tree", "pruner", "ratio")
"""The columns that say which point it is."""

NOTES = (
    *DEFINITIONS,
    "Kept: video tokens that the draft saw. Stage I: the share of them chosen by the target's attention.",
    "Bold: the fastest of its number of frames, end to end.",
)


def rows(metrics: Mapping[str, Any]) -> list[tuple[bool, dict[str, str]]]:
    """Each point that has answers in text, by column, and whether none of as many frames is faster end to end.

    Columns that say nothing of any point are left out.
    """
    points = [point for point in metrics["points"] if point["num_answers"]]
    fastest: dict[Any, float] = {}
    for point in points:
        fastest[point["frames"]] = max(fastest.get(point["frames"], 0.0), point["end_to_end_speedup"] or 0.0)
    told = [{column: show(point) for column, show in COLUMNS.items()} for point in points]
    said = [column for column in COLUMNS if any(cells[column] for cells in told)]
    return [
        (
            fastest[point["frames"]] > 0 and point["end_to_end_speedup"] == fastest[point["frames"]],
            {column: cells[column] for column in said},
        )
        for point, cells in zip(points, told, strict=True)
    ]


def sweep_html(run: Run, metrics: Mapping[str, Any], pictures: Sequence[Picture]) -> str:
    """Errors: OptionError."""
    template = new_environment().from_string(
        files("specvlm.evals.sweeping").joinpath("sweep.html.jinja").read_text(encoding="utf-8")
    )
    different = [(group, found) for group, of in metrics["lossless"].items() for found in of["different"]]
    return template.render(
        name=run.name,
        asked=run.config["asked"],
        sessions=run.config["sessions"],
        metrics=metrics,
        compared=sum(of["compared"] for of in metrics["lossless"].values()),
        different=different,
        naming=NAMING,
        rows=rows(metrics),
        notes=NOTES,
        pictures=[(picture, _uri(picture.svg)) for picture in pictures],
    )


def _uri(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
