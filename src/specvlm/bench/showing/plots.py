"""One picture of a bench: speedups, where the time goes, and how cost grows. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specvlm.bench.growth import A_TOKEN, ANSWER, PROMPT, ROWS
from specvlm.bench.showing.report import processor_of
from specvlm.bench.steps import STOCK
from specvlm.comparing.words import words
from specvlm.drawing import DPI, LIGHT, THEMES, Theme, as_png, as_svg, label_ends, new_figure, pairs, stacked
from specvlm.engine.stats import PHASES
from specvlm.errors import OptionError, brief
from specvlm.evals.writing import inside, require_regular, write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, A_PANEL = 13.0, 5.8
LEAST_HEIGHT, A_ROW = 3.2, 0.42
"""Inches: of the picture, of a panel by itself, of a row of panels, and of an arm in one."""
MARKERS = "os^Dv<>pP*"

Arms = Sequence[Mapping[str, Any]]
Lines = Sequence[Mapping[str, Any]]
"""Growths of a document."""


def write(document: Mapping[str, Any], path: Path) -> None:
    """The picture as a file, of the kind that its name ends with. Errors: OptionError."""
    with _figure(document, LIGHT) as figure:
        try:
            figure.savefig(path, dpi=DPI, metadata={"Date": None} if path.suffix == ".svg" else None)
        except ValueError as error:  # an ending that matplotlib doesn't know
            raise OptionError(f"can't plot to {path.name}: {error}") from None


def write_both(document: Mapping[str, Any], folder: Path, name: str) -> list[Path]:
    """NAME.png and NAME-dark.png in a folder, for pages that choose by what their reader likes. Errors: OptionError."""
    paths = [inside(folder, f"{name}{'' if theme is LIGHT else f'-{theme.name}'}.png") for theme in THEMES]
    for path, theme in zip(paths, THEMES, strict=True):
        require_regular(path)
        with _figure(document, theme) as figure:
            write_whole(path, as_png(figure))
    return paths


def require_kind(path: Path) -> None:
    """Errors: OptionError for a name that ends as no kind of picture does, before anything is measured."""
    with new_figure(1.0, 1.0) as figure:
        kinds = figure.canvas.get_supported_filetypes()
    if path.suffix.removeprefix(".").lower() not in kinds:
        raise OptionError(f"can't plot to {brief(path.name)}: its name should end with one of .{', .'.join(kinds)}")


def panels(document: Mapping[str, Any], theme: Theme = LIGHT) -> list[str]:
    """The panels of the picture, each a whole SVG document. Errors: OptionError."""
    drawn = []
    for draw, height in _panels(document, theme):
        with new_figure(A_PANEL, height, theme) as figure:
            draw(figure.add_subplot())
            drawn.append(as_svg(figure))
    return drawn


@contextmanager
def _figure(document: Mapping[str, Any], theme: Theme) -> Iterator[Figure]:
    """All panels, two in a row; one that is left over has a row for itself."""
    found = list(_panels(document, theme))
    rows = [found[start : start + 2] for start in range(0, len(found), 2)]
    heights = [max(height for _, height in row) for row in rows]
    with new_figure(WIDTH, sum(heights) + 0.4, theme) as figure:
        bench = document["bench"]
        figure.suptitle(f"{bench['pair']}, {bench['dtype']}: {processor_of(document)}, {bench['date'][:10]}")
        across = figure.subfigures(len(rows), 1, height_ratios=heights, squeeze=False)[:, 0]
        for row, part in zip(rows, across, strict=True):
            for (draw, _), place in zip(row, part.subfigures(1, len(row), squeeze=False)[0], strict=True):
                draw(place.add_subplot())
        yield figure


def _panels(document: Mapping[str, Any], theme: Theme) -> Iterator[tuple[Callable[[Any], None], float]]:
    """What draws each panel, and its height in inches."""
    last = document["cells"][-1]
    key = (last["video_tokens"], last["new_tokens"])
    arms = [arm for arm in document["arms"] if (arm["video_tokens"], arm["new_tokens"]) == key]
    height = max(LEAST_HEIGHT, 1.2 + A_ROW * len(arms))
    yield partial(_speedups, theme=theme, arms=arms), height
    yield partial(_phases, theme=theme, arms=arms), height
    growth, stock = document["costs"]["growth"], [s for s in document["costs"]["steps"] if s["loop"] == STOCK]
    for over, draw in ((PROMPT, _over_prompt), (ANSWER, _over_answer), (ROWS, partial(_over_rows, stock=stock))):
        if lines := [each for each in growth if each["over"] == over]:
            yield partial(draw, theme=theme, lines=lines), LEAST_HEIGHT


def _speedups(axes: Any, theme: Theme, arms: Arms) -> None:
    kinds = {"decoding": "decode_speedup", "end to end": "end_to_end_speedup"}
    longest = pairs(axes, theme, _names(arms), {kind: [arm[name] for arm in arms] for kind, name in kinds.items()})
    axes.axvline(1, color=theme.faint, linewidth=0.8, linestyle=":")
    axes.set_xlim(0, 1.3 * max(longest, 1.6))
    limits = [arm["roofline"]["loop_limit"] for arm in arms]
    if any(limits):  # in words: of a small model they are so far away that the bars would vanish beside them
        style = {"fontsize": 8, "color": theme.faint, "va": "center", "transform": axes.get_yaxis_transform()}
        for row, limit in enumerate(limits):
            if limit:
                axes.text(1.01, row, f"limit {limit['speedup']:.2f}", **style)
    axes.set_xlabel("times as fast as stock generate; on the right, the limit of decoding")
    axes.set_title(f"Speedup: {arms[0]['num_video_tokens']} video tokens, answers of {arms[0]['tokens']}")


def _phases(axes: Any, theme: Theme, arms: Arms) -> None:
    parts = {name.replace("_", " "): [arm["phases"].get(name, 0.0) for arm in arms] for name in PHASES[:-1]}
    stacked(axes, theme, _names(arms), [sum(arm["phases"].values()) for arm in arms], parts)
    axes.set_xlabel("seconds an answer")
    axes.set_title("Where the time goes")


def _over_prompt(axes: Any, theme: Theme, lines: Lines) -> None:
    axes.set_xlabel(PROMPT)
    axes.set_ylabel("ms a token")
    axes.set_title("Decoding a token, by the length of the prompt")
    _draw(axes, theme, [each for each in lines if each["what"].startswith(A_TOKEN)], 1000, "ms/1,000")


def _over_answer(axes: Any, theme: Theme, lines: Lines) -> None:
    axes.set_xlabel(ANSWER)
    axes.set_ylabel("ms")
    axes.set_title("Decoding, by the length of the answer")
    _draw(axes, theme, lines, 1, "ms/token")


def _over_rows(axes: Any, theme: Theme, lines: Lines, stock: Lines) -> None:
    axes.set_xlabel("rows (nodes of a tree)")
    axes.set_ylabel("ms")
    axes.set_title("A target forward, by its rows")
    one = [(f"stock's one row behind {step['cached']}", 1e3 * step["seconds"]) for step in stock]
    _draw(axes, theme, lines, 1, "ms/row", one)


def _draw(
    axes: Any, theme: Theme, lines: Lines, unit: int, of_slope: str, levels: Sequence[tuple[str, float]] = ()
) -> None:
    """Points in milliseconds, joined, each line with its name and slope at its end; and dashed levels."""
    labels = []
    for number, each in enumerate(lines):
        xs, ys = zip(*each["points"], strict=True)
        ys = [1e3 * y for y in ys]
        colour = theme.colour(number)
        axes.plot(xs, ys, marker=MARKERS[number % len(MARKERS)], markersize=4.5, linewidth=1.4, color=colour)
        name = words(each["what"].rpartition(", ")[2].removeprefix("a target forward "))
        labels.append((xs[-1], ys[-1], f"{name}: {1e3 * unit * each['slope']:+.3g} {of_slope}", colour))
    for number, (name, level) in enumerate(levels, start=len(lines)):
        axes.axhline(level, linestyle="--", color=theme.colour(number), linewidth=1)
        labels.append((axes.get_xlim()[1], level, name, theme.colour(number)))
    axes.set_ylim(bottom=0)
    label_ends(axes, labels)


def _names(arms: Arms) -> list[str]:
    return [words(arm["arm"]) for arm in arms]
