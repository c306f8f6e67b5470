"""Plots of a run, as SVG. Without matplotlib there are none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from specvlm.comparing.words import words
from specvlm.drawing import LIGHT, Theme, as_svg, label_ends, new_figure, pairs, stacked
from specvlm.engine.stats import PHASES

Arms = Mapping[str, Mapping[str, Any]]
"""Metrics by arm, of arms that have answers."""

WIDTH = 5.6
"""Inches."""


def speedups(arms: Arms, theme: Theme = LIGHT) -> str:
    """How many times as fast as stock generate, decoding and from the closed file to the last token."""

    def draw(axes: Any) -> None:
        kinds = {"decoding": "decode_speedup", "end to end": "end_to_end_speedup"}
        figures = {kind: [arm[name] for arm in arms.values()] for kind, name in kinds.items()}
        longest = pairs(axes, theme, list(map(words, arms)), figures)
        axes.axvline(1, color=theme.faint, linewidth=0.8, linestyle=":")
        axes.set_xlim(0, 1.35 * max(1.0, longest))
        axes.set_xlabel("times as fast as stock generate")
        axes.set_title("Speedup")

    return _svg(1.0 + 0.55 * len(arms), theme, draw)


def phases(arms: Arms, theme: Theme = LIGHT) -> str:
    """Where the seconds of an answer go, on average."""

    def draw(axes: Any) -> None:
        parts = {
            name.replace("_", " "): [max(0.0, arm["phases"].get(name, 0.0)) for arm in arms.values()]
            for name in PHASES[:-1]
        }
        totals = [sum(max(0.0, seconds) for seconds in arm["phases"].values()) for arm in arms.values()]
        stacked(axes, theme, list(map(words, arms)), totals, parts)
        axes.set_xlabel("seconds an answer, mean")
        axes.set_title("Where the time goes")

    return _svg(1.4 + 0.42 * len(arms), theme, draw)


def acceptance(arms: Arms, theme: Theme = LIGHT) -> str:
    """In which share of rounds the guess at each depth was accepted."""

    def draw(axes: Any) -> None:
        labels = []
        for number, (name, arm) in enumerate(arms.items()):
            shares = arm["accepted_per_depth"]
            axes.plot(range(1, len(shares) + 1), shares, "o-", markersize=4, color=theme.colour(number))
            labels.append((len(shares), shares[-1], words(name), theme.colour(number)))
        axes.set_ylim(0, 1.03)
        axes.set_xlabel("depth in the draft tree")
        axes.set_ylabel("share of rounds")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_title("Accepted at least this deep")
        label_ends(axes, labels)

    return _svg(3.0, theme, draw)


def answers(points: Mapping[str, Sequence[tuple[int, float]]], theme: Theme = LIGHT) -> str:
    """Each answer's decode speedup against its length: `points` are (tokens, speedup) by arm. An arm's name stands
    level with its mean."""

    def draw(axes: Any) -> None:
        labels = []
        for number, (name, found) in enumerate(points.items()):
            if not found:
                continue
            lengths, speeds = zip(*found, strict=True)
            colour = theme.colour(number)
            axes.scatter(lengths, speeds, s=30, alpha=0.75, linewidths=0, color=colour, marker="osD^v<>"[number % 7])
            labels.append((max(lengths), sum(speeds) / len(speeds), words(name), colour))
        axes.axhline(1, color=theme.faint, linewidth=0.8, linestyle=":")
        axes.set_xlabel("tokens of the answer")
        axes.set_ylabel("decode speedup")
        axes.set_ylim(bottom=0)
        axes.set_title("Each answer")
        label_ends(axes, labels)

    return _svg(3.0, theme, draw)


def _svg(height: float, theme: Theme, draw: Callable[[Any], None]) -> str:
    """One plot. Errors: OptionError without matplotlib."""
    with new_figure(WIDTH, height, theme) as figure:
        draw(figure.add_subplot())
        return as_svg(figure)
