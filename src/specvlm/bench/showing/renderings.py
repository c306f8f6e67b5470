"""Grids as Markdown; and the one page of a bench."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any

from specvlm.bench.showing import plots
from specvlm.bench.showing.report import Grid, grids, introduction, same_cell
from specvlm.comparing.headline import Headline, fastest, headline
from specvlm.comparing.words import words
from specvlm.drawing import DARK, LIGHT
from specvlm.pages import Picture, render

ALT = ("How many times as fast as stock generate each arm is", "Where the seconds of an answer go, by arm")
GROWTH = "How cost grows"
"""What the panels of the picture show: the first two, and all that follow."""


def markdown(grid: Grid) -> str:
    """The table alone; its notes are for whoever writes the page to place."""
    lines = ["| " + " | ".join(grid.head) + " |", "|---|" + "---:|" * (len(grid.head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in grid.rows])


def page(document: Mapping[str, Any], command: str = "") -> str:
    """One page that loads nothing, with the picture's panels. `command` is what a shell repeats it with. A note that
    several tables have stands below the last of them. Errors: OptionError without matplotlib."""
    bench = document["bench"]
    found = grids(document)
    drawn = [plots.panels(document, theme) for theme in (LIGHT, DARK)]
    return render(
        "bench.html",
        command=command,
        name=f"{bench['pair']}, {bench['dtype']}",
        headline=headline_of(document),
        introduction=introduction(document),
        pictures=[
            Picture.of_svgs(alt, *svgs) for alt, svgs in zip_longest(ALT, zip(*drawn, strict=True), fillvalue=GROWTH)
        ],
        grids=[replace(grid, notes=_last_said(found, number)) for number, grid in enumerate(found)],
    )


def headline_of(document: Mapping[str, Any]) -> Headline:
    """Of the fastest arm on the longest prompt and answer; what is lost, over all answers but stock generate's own."""
    arms = document["arms"]
    best = fastest([arm for arm in arms if same_cell(arm, document["cells"][-1])])
    others = [arm for arm in arms if arm["arm"] != "ar" and arm["identical"] is not None]
    name = "" if best is None else f"{words(best['arm'])}, {best['num_video_tokens']} video tokens"
    return headline(name, best, len(others), sum(not arm["identical"] for arm in others))


def _last_said(found: Sequence[Grid], number: int) -> tuple[str, ...]:
    """The notes of a grid that no later one has."""
    later = {note for other in found[number + 1 :] for note in other.notes}
    return tuple(note for note in found[number].notes if note not in later)
