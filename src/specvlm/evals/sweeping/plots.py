"""The pictures of a sweep, made of its metrics alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from specvlm.drawing import DARK, LIGHT, THEMES, Theme, as_png, as_svg, label_ends, new_figure
from specvlm.errors import OptionError
from specvlm.pruning.base import Number

Point = Mapping[str, Any]
Draw = Callable[[Any, Theme], None]
"""Draws one panel, an Axes of matplotlib."""
Lines = dict[str, list[tuple[Number, Number]]]
"""Points by the name of their line."""

COLUMNS, WIDTH, HEIGHT = 2, 5.0, 3.1
"""Panels side by side, and the inches of each."""
MARKERS = "osD^vPX*"
ACCEPTANCE, DECODING = "mean acceptance length", "decode speedup"
FIGURES = {"mean_acceptance_length": ACCEPTANCE, "decode_speedup": DECODING}


@final
@dataclass(frozen=True)
class Picture:
    """A figure in the forms that are kept: `panels` in the report, each an SVG on a light ground and on a dark one, and
    all of them as a PNG, on both grounds, beside it."""

    name: str
    caption: str
    panels: tuple[tuple[str, str], ...]
    png: bytes
    dark_png: bytes


def pictures(metrics: Mapping[str, Any]) -> list[Picture]:
    """Those that the sweep has enough points for; none without matplotlib."""
    points = [point for point in metrics["points"] if point["num_answers"]]
    drawn = [against_ratio(points), against_frames(points), stage_one(points), over_time(points)]
    try:
        return [_picture(name, caption, panels) for name, caption, panels in drawn if panels]
    except OptionError:
        return []


Panels = tuple[str, str, Sequence[Draw]]
"""Name, caption, and what to draw."""


def against_ratio(points: Sequence[Point]) -> Panels:
    """Acceptance and speedup against the pruning ratio, a line a pruner; ratio 0 is plain speculation for all."""
    panels = [
        _lines(figure, place, _by_pruner(points, place, figure), "pruning ratio")
        for place in _places(points)
        for figure in FIGURES
    ]
    caption = (
        "What is lost by pruning, and what is won. A draft that sees fewer video tokens guesses worse and costs less. "
        "Ratio 0 is plain speculation, whose draft sees all of them."
    )
    return "against_ratio", caption, panels


def against_frames(points: Sequence[Point]) -> Panels:
    """The same against the number of frames, at the highest ratio."""
    highest = max((point["ratio"] for point in points), default=0.0)
    trees = dict.fromkeys(point["tree"] for point in points if point["tree"])
    if len({point["frames"] for point in points} - {None}) < 2:
        return "against_frames", "", ()
    panels = []
    for tree in trees:
        there = [point for point in points if point["tree"] == tree and point["frames"] is not None]
        at = [point for point in there if point["ratio"] == highest or point["pruner"] is None]
        for figure in FIGURES:
            lines: Lines = {}
            for point in at:
                if point[figure] is not None:
                    lines.setdefault(point["pruner"] or "plain", []).append((point["frames"], point[figure]))
            panels.append(_lines(figure, f"{tree}, ratio {highest:g}", lines, "frames"))
    return "against_frames", f"The longer the video, the more there is to prune. Pruned at {highest:g}.", panels


def stage_one(points: Sequence[Point]) -> Panels:
    """Acceptance against the share of kept tokens that a pruner of two stages chose by the target's attention."""
    panels = []
    for place in _places(points):
        lines: Lines = {}
        for point in points:
            if _place(point) == place and len(point["kept_by_stage"]) == 2:
                found = (point["kept_by_stage"][0], point["mean_acceptance_length"])
                lines.setdefault(f"ratio {point['ratio']:g}", []).append(found)
        lines = {name: sorted(line) for name, line in lines.items() if len({share for share, _ in line}) > 1}
        if lines:
            panels.append(_lines("mean_acceptance_length", place, lines, "share of stage I in the kept tokens"))
    caption = "Stage I keeps what the target looks at, stage II an even sample of the rest: how much of each is best?"
    return "stage_one", caption, panels


def over_time(points: Sequence[Point]) -> Panels:
    """Where in the video the kept tokens lie, a panel a pruner, over where the target looks."""
    if not points:
        return "over_time", "", ()
    first = points[-1]["frames"], next((point["tree"] for point in points if point["tree"]), None)
    attention = next((p["attention_over_time"] for p in points if p["tree"] is None and p["frames"] == first[0]), [])
    pruners: dict[str, list[Point]] = {}
    for point in points:
        if point["pruner"] and (point["frames"], point["tree"]) == first and point["kept_over_time"]:
            pruners.setdefault(point["pruner"], []).append(point)
    frames = "" if first[0] is None else f" {first[0]} frames."
    caption = (
        "Kept tokens from the video's beginning to its end, relative to an even spread; grey, the target's attention. "
        f"Attention favours places, such as the first and last frames, whatever they show.{frames}"
    )
    return "over_time", caption, [_steps(name, found, attention) for name, found in pruners.items()]


def _steps(title: str, points: Sequence[Point], attention: Sequence[Number]) -> Draw:
    def draw(axes: Any, theme: Theme) -> None:
        labels = []
        if attention:
            axes.stairs(attention, _edges(attention), fill=True, color=theme.line)
            labels.append((1.0, float(attention[-1]), "attention", theme.faint))
        for number, point in enumerate(points):
            kept, colour = point["kept_over_time"], theme.colour(number)
            axes.stairs(kept, _edges(kept), color=colour, linewidth=1.6)
            labels.append((1.0, float(kept[-1]), f"{point['ratio']:g} pruned", colour))
        axes.axhline(1, color=theme.faint, linewidth=0.8, linestyle=":")
        axes.set_xlim(0, 1)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("time in the video")
        axes.set_ylabel("relative to even")
        axes.set_title(title)
        label_ends(axes, labels)

    return draw


def _edges(amounts: Sequence[Number]) -> list[float]:
    return [number / len(amounts) for number in range(len(amounts) + 1)]


def _lines(figure: str, title: str, lines: Lines, along: str) -> Draw:
    def draw(axes: Any, theme: Theme) -> None:
        labels = []
        for number, (name, line) in enumerate(lines.items()):
            colour = theme.faint if name == "plain" else theme.colour(number)
            style = {"linestyle": "--"} if name == "plain" else {}
            axes.plot(*zip(*line, strict=True), marker=MARKERS[number % 8], markersize=4.5, color=colour, **style)
            labels.append((*map(float, line[-1]), name, colour))
        axes.axhline(1, color=theme.faint, linewidth=0.8, linestyle=":")
        places = sorted({place for line in lines.values() for place, _ in line})
        axes.set_xticks(places, [f"{place:g}" for place in places], rotation=45)  # 0.9 and 0.95 are neighbours
        axes.set_xlabel(along)
        axes.set_ylabel(FIGURES[figure])
        axes.set_title(title)
        label_ends(axes, labels)

    return draw


def _by_pruner(points: Sequence[Point], place: str, figure: str) -> Lines:
    """Each pruner's (ratio, figure), from plain speculation on."""
    there = [point for point in points if _place(point) == place and point[figure] is not None]
    start = [(0.0, point[figure]) for point in there if point["pruner"] is None]
    lines = {point["pruner"]: list(start) for point in there if point["pruner"]}
    for point in there:
        if point["pruner"]:
            lines[point["pruner"]].append((point["ratio"], point[figure]))
    return {pruner: sorted(line) for pruner, line in lines.items()}


def _places(points: Sequence[Point]) -> list[str]:
    return list(dict.fromkeys(_place(point) for point in points if point["tree"]))


def _place(point: Point) -> str:
    """What a panel is about; nothing of stock generate, which has no tree."""
    if point["tree"] is None:
        return ""
    return point["tree"] if point["frames"] is None else f"{point['tree']}, {point['frames']} frames"


def _picture(name: str, caption: str, panels: Sequence[Draw]) -> Picture:
    """Errors: OptionError without matplotlib."""
    each = tuple((_panel(draw, LIGHT), _panel(draw, DARK)) for draw in panels)
    return Picture(name, caption, each, *(_together(panels, theme) for theme in THEMES))


def _panel(draw: Draw, theme: Theme) -> str:
    with new_figure(WIDTH, HEIGHT, theme) as figure:
        draw(figure.add_subplot(), theme)
        return as_svg(figure)


def _together(panels: Sequence[Draw], theme: Theme) -> bytes:
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    with new_figure(WIDTH * columns, HEIGHT * rows, theme) as figure:
        for number, draw in enumerate(panels, start=1):
            draw(figure.add_subplot(rows, columns, number), theme)
        return as_png(figure)
