"""Plots of a run, as SVG. Without matplotlib there are none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import Any

from specvlm.drawing import COLOURS, GREY, SHADES, as_svg, new_figure
from specvlm.engine.stats import PHASES

Arms = Mapping[str, Mapping[str, Any]]
"""Metrics by arm, of arms that have answers."""


def speedups(arms: Arms) -> str:
    """How many times as fast as stock generate, decoding and from the closed file to the last token."""

    def draw(axes: Any) -> None:
        kinds = (("decode_speedup", "decoding"), ("end_to_end_speedup", "end to end"))
        for offset, (name, label) in enumerate(kinds):
            places = [place + (offset - 0.5) * 0.38 for place in range(len(arms))]
            values = [arm[name] or 0.0 for arm in arms.values()]
            bars = axes.barh(places, values, height=0.36, color=COLOURS[offset], label=label)
            axes.bar_label(bars, [f"{value:.2f}" for value in values], padding=3, fontsize=9)
        axes.axvline(1, color=GREY, linewidth=1, linestyle=":")
        axes.set_yticks(range(len(arms)), list(arms))
        axes.invert_yaxis()
        axes.set_xlabel("times as fast as stock generate")
        axes.margins(x=0.12)
        axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.45, -0.3), ncols=2)
        axes.set_title("Speedup")

    return _svg(1.7 + 0.5 * len(arms), draw)


def phases(arms: Arms) -> str:
    """Where the seconds of an answer go, on average."""

    def draw(axes: Any) -> None:
        left = [0.0] * len(arms)
        names = [name for name in PHASES if any(arm["phases"].get(name, 0.0) > 0 for arm in arms.values())]
        for number, name in enumerate(names):
            seconds = [max(0.0, arm["phases"].get(name, 0.0)) for arm in arms.values()]
            axes.barh(range(len(arms)), seconds, left=left, height=0.6, color=SHADES[number % 12], label=name)
            left = [start + more for start, more in zip(left, seconds, strict=True)]
        axes.set_yticks(range(len(arms)), list(arms))
        axes.invert_yaxis()
        axes.set_xlabel("seconds an answer, mean")
        handles, labels = axes.get_legend_handles_labels()
        labels = [label.replace("_", " ") for label in labels]
        axes.legend(
            handles, labels, frameon=False, loc="upper center", bbox_to_anchor=(0.45, -0.3), ncols=4, fontsize=9
        )
        axes.set_title("Where the time goes")

    return _svg(1.9 + 0.45 * len(arms), draw)


def acceptance(arms: Arms) -> str:
    """In which share of rounds the guess at each depth was accepted."""

    def draw(axes: Any) -> None:
        for colour, (name, arm) in zip(cycle(COLOURS), arms.items(), strict=False):
            shares = arm["accepted_per_depth"]
            axes.plot(range(1, len(shares) + 1), shares, "o-", color=colour, label=name)
        axes.set_ylim(0, 1.03)
        axes.set_xlabel("depth in the draft tree")
        axes.set_ylabel("share of rounds")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False)
        axes.set_title("Accepted at least this deep")

    return _svg(3.0, draw)


def answers(points: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    """Each answer's decode speedup against its length: `points` are (tokens, speedup) by arm."""

    def draw(axes: Any) -> None:
        for colour, (name, found) in zip(cycle(COLOURS), points.items(), strict=False):
            lengths, speeds = zip(*found, strict=True) if found else ((), ())
            axes.scatter(lengths, speeds, s=36, alpha=0.7, linewidths=0, color=colour, label=name)
        axes.axhline(1, color=GREY, linewidth=1, linestyle=":")
        axes.set_xlabel("tokens of the answer")
        axes.set_ylabel("decode speedup")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)
        axes.set_title("Each answer")

    return _svg(3.0, draw)


def _svg(height: float, draw: Callable[[Any], None]) -> str:
    """One plot. Errors: OptionError without matplotlib."""
    with new_figure(6.4, height) as figure:
        draw(figure.add_subplot())
        return as_svg(figure)
