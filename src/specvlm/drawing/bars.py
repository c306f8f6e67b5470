"""Bars that lie: figures side by side, and the parts of a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from specvlm.drawing.labelling import SIZE, swatches
from specvlm.drawing.themes import Theme

LETTER = 0.54 * SIZE / 72
"""Inches, about, of a letter of a label."""

LEAST_SHARE = 0.02
"""Of the longest bar: parts that are nowhere longer are drawn together, as the rest."""

REST = "the rest"


def pairs(axes: Any, theme: Theme, names: Sequence[str], figures: Mapping[str, Sequence[float | None]]) -> float:
    """A bar for each figure of each name, beside its number; in the first row, what it is a figure of, too. Returns
    where the longest ends."""
    height = 0.8 / len(figures)
    longest = max([value or 0.0 for values in figures.values() for value in values] or [1.0])
    for number, (kind, values) in enumerate(figures.items()):
        places = [place + height * (number - (len(figures) - 1) / 2) for place in range(len(names))]
        bars = axes.barh(places, [value or 0.0 for value in values], 0.92 * height, color=theme.colour(number))
        texts = ["" if value is None else f"{value:.2f}" for value in values]
        axes.bar_label(bars, [f"{text} {kind}" if row == 0 else text for row, text in enumerate(texts)],
                       padding=3, fontsize=SIZE, color=theme.ink)  # fmt: skip
    _rows(axes, names)
    return longest


def stacked(
    axes: Any, theme: Theme, names: Sequence[str], totals: Sequence[float], parts: Mapping[str, Sequence[float]]
) -> None:
    """A bar for each name, made of parts, each called by its name where it is longest. What the `totals` have more than
    all parts is the rest.

    Parts have colours by their places, from the last on, empty ones too: the same in every picture.
    """
    longest = max(totals, default=0.0)
    colours = {part: theme.colour(number) for number, part in enumerate(reversed(list(parts)))}
    shown = {part: values for part, values in parts.items() if max(values) >= LEAST_SHARE * longest > 0}
    rest = [total - sum(values[row] for values in shown.values()) for row, total in enumerate(totals)]
    if max(rest, default=0.0) > 0:
        shown[REST], colours[REST] = rest, theme.faint
    starts, unnamed = [0.0] * len(names), {}
    inches = 0.9 * axes.bbox.width / axes.figure.dpi  # labels on the left will take their part
    for part, values in shown.items():
        axes.barh(range(len(names)), values, 0.72, left=starts, color=colours[part], edgecolor=theme.ground)
        row = max(range(len(names)), key=values.__getitem__)
        if values[row] / longest * inches > LETTER * (len(part) + 1):
            at = (starts[row] + values[row] / 2, row)
            axes.text(*at, part, ha="center", va="center", fontsize=SIZE, color=theme.upon(colours[part]))
        else:
            unnamed[part] = colours[part]
        starts = [start + value for start, value in zip(starts, values, strict=True)]
    _rows(axes, names)
    axes.set_xlim(0, 1.02 * longest if longest else 1.0)
    swatches(axes, theme, unnamed)


def _rows(axes: Any, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), list(names))
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(names) - 0.45, -0.55)
