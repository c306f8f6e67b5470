"""Labels beside what they name, in the place of a legend somewhere else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from specvlm.drawing.themes import Theme

Number = int | float
Label = tuple[Number, Number, str, str]
"""Where a line ends, in the units of the data, what it is called, and its colour."""

SIZE = 8
"""Points."""
RIGHT = 1.03
"""Where labels stand, in widths of the axes."""


def label_ends(axes: Any, labels: Sequence[Label]) -> None:
    """Write each label right of the axes, level with the end of its line as far as there is room, and joined to it.

    For when the limits of the axes are settled.
    """
    if not labels:
        return
    inches = axes.bbox.height / axes.figure.dpi
    bottom, top = axes.get_ylim()
    ends = [(y - bottom) / (top - bottom) for _, y, _, _ in labels]
    for (x, y, text, colour), place in zip(labels, spread(ends, 1.35 * SIZE / 72 / inches), strict=True):
        axes.annotate(
            text,
            xy=(x, y),
            xytext=(RIGHT, place),
            textcoords="axes fraction",
            annotation_clip=False,
            verticalalignment="center",
            color=colour,
            fontsize=SIZE,
            parse_math=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.6,
                "shrinkA": 0,
                "shrinkB": 3,
                "relpos": (0, 0.5),
            },
        )


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Places as near to those given as they can be with a gap between any two, in the same order; within 0 and 1, if
    they fit there."""
    order = sorted(range(len(places)), key=places.__getitem__)
    blocks: list[tuple[float, int]] = []  # the middle of labels that touch each other, and how many they are
    for number in order:
        middle, count = places[number], 1
        while blocks and middle - blocks[-1][0] < gap * (count + blocks[-1][1]) / 2:
            other, others = blocks.pop()
            middle, count = (middle * count + other * others) / (count + others), count + others
        blocks.append((middle, count))
    found = [middle + gap * (number - (count - 1) / 2) for middle, count in blocks for number in range(count)]
    low = gap / 2
    high = max(1 - low, low + gap * (len(found) - 1))
    for number in range(len(found)):
        found[number] = max(found[number], low + gap * number)
    for number in reversed(range(len(found))):
        found[number] = min(found[number], high - gap * (len(found) - 1 - number))
    spaced = dict(zip(order, found, strict=True))
    return [spaced[number] for number in range(len(places))]


def swatches(axes: Any, theme: Theme, colours: dict[str, str]) -> None:
    """What no label found room for: names beside squares of their colours, right below the axes."""
    from matplotlib.patches import Patch

    if colours:
        axes.legend(
            handles=[Patch(facecolor=colour, label=name) for name, colour in colours.items()],
            loc="upper left",
            bbox_to_anchor=(0, -0.2),
            ncols=4,
            frameon=False,
            fontsize=SIZE,
            labelcolor=theme.ink,
            borderaxespad=0,
            handlelength=1,
            columnspacing=1.2,
        )
