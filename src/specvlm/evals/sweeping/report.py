"""The report of a sweep, as a page of HTML that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from specvlm import pages
from specvlm.comparing.headline import Headline, fastest, headline
from specvlm.evals.reporting.figures import DEFINITIONS, times
from specvlm.evals.reporting.repeating import command_of
from specvlm.evals.run_folder import Run
from specvlm.evals.sweeping.plots import Picture
from specvlm.pages import render

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
WIDE = ("kept", "stage I", "identical")
"""Those that a telephone has no room for."""

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
    different = [(group, found) for group, of in metrics["lossless"].items() for found in of["different"]]
    told = rows(metrics)
    head = list(told[0][1]) if told else []
    return render(
        "sweep.html",
        command=command_of(run.config["asked"], run.name),
        name=run.name,
        asked=run.config["asked"],
        sessions=run.config["sessions"],
        metrics=metrics,
        headline=_headline(metrics),
        compared=sum(of["compared"] for of in metrics["lossless"].values()),
        different=different,
        rows=told,
        head=head,
        cells=[list(row.values()) for _, row in told],
        best=[number for number, (best, _) in enumerate(told) if best],
        texts=[number for number, column in enumerate(head) if column in NAMING],
        narrow=[number for number, column in enumerate(head) if column not in WIDE and not _alike(told, column)],
        notes=NOTES,
        pictures=[(each, [pages.Picture.of_svgs(each.caption, *svgs) for svgs in each.panels]) for each in pictures],
    )


def _alike(told: Sequence[tuple[bool, Mapping[str, str]]], column: str) -> bool:
    """Whether a column says the same of all points that it says something of."""
    return len({row[column] for _, row in told if row[column]}) < 2


def _headline(metrics: Mapping[str, Any]) -> Headline:
    """Of the fastest point; what is lost, over all points."""
    points = [point for point in metrics["points"] if point["num_answers"]]
    others = [point for point in points if point["arm"] != "ar" and point["identical"] is not None]
    compared = sum(point["num_answers"] for point in others)
    best = fastest(points)
    return headline(_named(best) if best else "", best, compared, compared - sum(p["identical"] for p in others))


def _named(point: Mapping[str, Any]) -> str:
    """A point in words."""
    frames = "" if point["frames"] is None else f", {point['frames']} frames"
    tree = "planned trees" if point["tree"] == "auto" else f"tree {point['tree']}"
    if point["pruner"] is None:
        return f"plain speculation, {tree}{frames}"
    return f"{point['pruner']} at {point['ratio']:g}, {tree}{frames}"
