"""When what was done: a line for each kind of work, and time from left to right, so that what overlaps can be seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from specvlm.drawing.labelling import SIZE
from specvlm.drawing.themes import Theme

HEIGHT = 0.28
"""Inches that a line takes, and those that the axis takes beside."""
BESIDE = 0.85


def lanes(spans: Sequence[tuple[str, float, float]]) -> list[str]:
    """Kinds of work in the order in which they first began."""
    return list(dict.fromkeys(name for name, _, _ in sorted(spans, key=lambda span: span[1])))


def timeline(
    axes: Any, theme: Theme, spans: Sequence[tuple[str, float, float]], first_token: float, until: float
) -> None:
    """Spans (name, start, end in seconds) up to the second `until`, and a mark where the first token was known."""
    names = lanes(spans)
    for row, name in enumerate(names):
        mine = [(start, min(end, until) - start) for each, start, end in spans if each == name and start < until]
        axes.broken_barh(mine, (row - 0.36, 0.72), facecolors=theme.colour(row), linewidth=0)
    axes.axvline(first_token, color=theme.ink, linewidth=0.9, linestyle=(0, (3, 2)))
    axes.text(first_token, -0.62, "first token", ha="right", va="bottom", fontsize=SIZE, color=theme.ink)
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(names) - 0.5, -0.6)
    axes.set_xlim(0, until)
    axes.set_xlabel("seconds since the question")
