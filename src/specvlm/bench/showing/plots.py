"""One picture of a bench: speedups under their limits, where the time goes, and how cost grows. Needs matplotlib."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import cycle, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specvlm.bench.growth import A_TOKEN, ANSWER, PROMPT, ROWS
from specvlm.bench.showing.report import processor_of
from specvlm.bench.steps import STOCK
from specvlm.drawing import COLOURS, GREY, SHADES, as_svg, new_figure
from specvlm.engine.stats import PHASES
from specvlm.errors import OptionError, brief

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 13.0, 4.5
"""Inches, of the picture and of a row of it."""

Arms = Sequence[Mapping[str, Any]]
Lines = Sequence[Mapping[str, Any]]
"""Growths of a document."""


def write(document: Mapping[str, Any], path: Path) -> None:
    """The picture as a file, of the kind that its name ends with. Errors: OptionError."""
    with _figure(document) as figure:
        try:
            figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
        except ValueError as error:  # an ending that matplotlib doesn't know
            raise OptionError(f"can't plot to {path.name}: {error}") from None


def require_kind(path: Path) -> None:
    """Errors: OptionError for a name that ends as no kind of picture does, before anything is measured."""
    with new_figure(1.0, 1.0) as figure:
        kinds = figure.canvas.get_supported_filetypes()
    if path.suffix.removeprefix(".").lower() not in kinds:
        raise OptionError(f"can't plot to {brief(path.name)}: its name should end with one of .{', .'.join(kinds)}")


def svg(document: Mapping[str, Any]) -> str:
    """The picture as an element of an HTML page. Errors: OptionError."""
    with _figure(document) as figure:
        text = as_svg(figure)
    return text[text.index("<svg") :]


@contextmanager
def _figure(document: Mapping[str, Any]) -> Iterator[Figure]:
    last = document["cells"][-1]
    key = (last["video_tokens"], last["new_tokens"])
    arms = [arm for arm in document["arms"] if (arm["video_tokens"], arm["new_tokens"]) == key]
    panels = [partial(_speedups, arms=arms), partial(_phases, arms=arms)]
    growth, stock = document["costs"]["growth"], [s for s in document["costs"]["steps"] if s["loop"] == STOCK]
    for over, draw in ((PROMPT, _over_prompt), (ANSWER, _over_answer), (ROWS, partial(_over_rows, stock=stock))):
        if lines := [each for each in growth if each["over"] == over]:
            panels.append(partial(draw, lines=lines))
    rows = math.ceil(len(panels) / 2)
    with new_figure(WIDTH, HEIGHT * rows) as figure:
        bench = document["bench"]
        figure.suptitle(f"{bench['pair']}, {bench['dtype']}: {processor_of(document)}, {bench['date'][:10]}")
        for axes, draw in zip_longest(figure.subplots(rows, 2, squeeze=False).flat, panels):
            if draw is None:
                axes.set_axis_off()
            else:
                draw(axes)
        yield figure


def _speedups(axes: Any, arms: Arms) -> None:
    kinds = (("decode_speedup", "decode"), ("end_to_end_speedup", "end to end"))
    for offset, (name, label) in enumerate(kinds):
        places = [place + 0.4 * (offset - 0.5) for place in range(len(arms))]
        bars = axes.barh(places, [arm[name] for arm in arms], 0.38, label=label, color=COLOURS[offset])
        axes.bar_label(bars, fmt="%.2f", padding=2, fontsize=8)
    limits = {
        name: [(arm["roofline"][name]["speedup"], place) for place, arm in enumerate(arms) if arm["roofline"][name]]
        for name in ("loop_limit", "memory_limit")
    }
    # Of a small model the limit by memory is so far away that the bars would vanish beside it.
    end = 1.2 * max(*(arm["decode_speedup"] for arm in arms), *(limit for limit, _ in limits["loop_limit"]))
    for (name, points), mark in zip(limits.items(), ("x", "|"), strict=True):
        near = [point for point in points if point[0] < end]
        if near:
            label = name.replace("_", " ") + " of decoding"
            axes.scatter(*zip(*near, strict=True), marker=mark, color="black", label=label, s=40)
    axes.set_xlim(0, end)
    axes.set_yticks(range(len(arms)), [arm["arm"] for arm in arms])
    axes.invert_yaxis()
    axes.axvline(1, color=GREY, linewidth=0.8)
    axes.set_xlabel("times as fast as stock generate")
    axes.set_title(f"Speedup: {arms[0]['num_video_tokens']} video tokens, answers of {arms[0]['tokens']}")
    axes.legend(loc="best", fontsize=8)


def _phases(axes: Any, arms: Arms) -> None:
    starts = [0.0] * len(arms)
    names = [name for name in PHASES if any(arm["phases"].get(name, 0.0) > 0 for arm in arms)]
    for name, colour in zip(names, SHADES * 2, strict=False):
        widths = [arm["phases"].get(name, 0.0) for arm in arms]
        axes.barh(range(len(arms)), widths, 0.7, left=starts, label=name.replace("_", " "), color=colour)
        starts = [start + width for start, width in zip(starts, widths, strict=True)]
    axes.set_yticks(range(len(arms)), [arm["arm"] for arm in arms])
    axes.invert_yaxis()
    axes.set_xlabel("seconds")
    axes.set_title("Where the time goes")
    axes.legend(fontsize=7, ncols=2)


def _over_prompt(axes: Any, lines: Lines) -> None:
    _draw(axes, [each for each in lines if each["what"].startswith(A_TOKEN)], 1000, "ms more for 1,000 tokens")
    axes.set_title("Decoding a token, by the length of the prompt")
    axes.set_xlabel(PROMPT)
    axes.set_ylabel("ms a token")


def _over_answer(axes: Any, lines: Lines) -> None:
    _draw(axes, lines, 1, "ms a token")
    axes.set_title("Decoding, by the length of the answer")
    axes.set_xlabel(ANSWER)
    axes.set_ylabel("ms")


def _over_rows(axes: Any, lines: Lines, stock: Lines) -> None:
    _draw(axes, lines, 1, "ms a row")
    for step, colour in zip(stock, COLOURS, strict=False):
        label = f"one row of stock transformers behind {step['cached']} tokens"
        axes.axhline(1e3 * step["seconds"], linestyle="--", color=colour, linewidth=0.9, label=label)
    axes.set_title("A target forward, by its rows")
    axes.set_xlabel("rows (nodes of a tree)")
    axes.set_ylabel("ms")
    axes.legend(fontsize=7)


def _draw(axes: Any, lines: Lines, unit: int, of_slope: str) -> None:
    """Points in milliseconds, joined; the slope of the line through them in the legend."""
    for each, colour in zip(lines, cycle(COLOURS)):
        xs, ys = zip(*each["points"], strict=True)
        label = f"{each['what'].rpartition(', ')[2]}: {1e3 * unit * each['slope']:.3g} {of_slope}"
        axes.plot(xs, [1e3 * y for y in ys], "o-", label=label, color=colour)
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=7)
