"""An explanation as pictures, for papers and slides: the page's four views, each a PNG."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from specvlm.drawing import LIGHT, Theme, as_png, new_figure
from specvlm.explain.colours import BY_THEME, Colours
from specvlm.explain.explanation import Explanation, Look, Tree, Word
from specvlm.explain.layout import layout
from specvlm.explain.page import STAGES, heat_about
from specvlm.pruning.base import Number

COLUMNS = 88
"""Letters of a line of the answer."""
FONT_SIZE = 10
LETTER, LINE_HEIGHT = 0.602 * FONT_SIZE / 72, 0.27
"""Inches: the advance of DejaVu Sans Mono, matplotlib's own fixed-width font, and from line to line."""

NODE_WIDTH, NODE_HEIGHT = 1.3, 0.34
"""Inches from depth to depth, and from row to row, of a tree."""
LONGEST_LABEL = 12

TILE_WIDTH = 264
"""Pixels of a frame, about: as many as it has in the picture."""
DIMMED = 0.35
"""How much light is left of what the draft never saw."""

LARGEST, FILLED = 0.94, 0.16
"""How much of its place the ring of the most attended token takes, across, and how much colour is inside of rings."""

Paint = Callable[[Float[np.ndarray, "H W 3"], Look], Float[np.ndarray, "H W 3"]]


NAMES = ("answer", "tree", "kept", "attention")
"""Of all pictures that there can be."""


def pictures(explanation: Explanation, theme: Theme = LIGHT) -> dict[str, bytes]:
    """PNG files by name: `answer`, `tree` (the round with most guesses; none if the answer took no round), `kept` and
    `attention` (none for a video whose tokens have no places). Errors: OptionError without matplotlib."""
    colours = BY_THEME[theme]
    made = {"answer": _answer(explanation.words, colours)}
    if explanation.trees:
        made["tree"] = _tree(max(explanation.trees, key=lambda tree: len(tree.texts)), colours)
    if explanation.looks:
        keys = dict(zip(STAGES.get(explanation.num_stages, ()), (colours.one, colours.two), strict=False))
        keys["the draft never saw it"] = colours.unseen
        made["kept"] = _frames(explanation.looks, partial(_lit, colours), keys, colours)
        heat = partial(_heated, explanation, colours)
        made["attention"] = _frames(explanation.looks, heat, {heat_about(explanation): colours.heat}, colours)
    return made


def _answer(words: Sequence[Word], colours: Colours) -> bytes:
    """The text with every token coloured by how it came; deeper guesses are greener, as on the page."""
    lines = list(_lines(words))
    deepest = max([1, *(word.depth for word in words)])
    keys = {
        "guessed one token ahead": _shade(1, deepest, colours),
        f"{deepest} ahead": _shade(deepest, deepest, colours),
        "the target's own": colours.own,
        "first": colours.first,
    }
    with new_figure((COLUMNS + 4) * LETTER, (len(lines) + 2.5) * LINE_HEIGHT, colours.theme) as figure:
        axes = _blank(figure, COLUMNS + 4, len(lines) + 2.5)
        for row, line in enumerate(lines, start=1):
            for start, text, word in line:
                box = {"xy": (start + 2, row - 0.36), "width": len(text)}
                if word.origin == "drafted":
                    _box(axes, **box, height=0.86, color=_shade(word.depth, deepest, colours))
                else:
                    _box(axes, **{**box, "xy": (start + 2, row + 0.4)}, height=0.1, color=_of(word, colours))
                _write(axes, start + 2, row + 0.05, text, family="monospace")
        _legend(axes, keys)
        return as_png(figure)


def _lines(words: Sequence[Word]) -> Iterator[list[tuple[int, str, Word]]]:
    """Lines of (column, text, word), broken between words of the language, of which a token may be a part."""
    letters = [(_visible(letter), word) for word in words for letter in word.text]
    while letters:
        text = "".join(letter for letter, _ in letters[: COLUMNS + 1])
        newline = text.find("\n")
        if newline >= 0:
            end, skip = newline, 1
        elif len(letters) <= COLUMNS:
            end, skip = len(letters), 0
        else:
            space = text.rfind(" ", 1)
            end, skip = (space, 1) if space > 0 else (COLUMNS, 0)
        line: list[tuple[int, str, Word]] = []
        for column, (letter, word) in enumerate(letters[:end]):
            if line and line[-1][2] is word:
                start, so_far, _ = line.pop()
                line.append((start, so_far + letter, word))
            else:
                line.append((column, letter, word))
        yield line
        letters = letters[end + skip :]


def _visible(letter: str) -> str:
    return letter if letter == "\n" or letter.isprintable() else "\ufffd"


def _of(word: Word, colours: Colours) -> str:
    return colours.own if word.origin == "own" else colours.first


def _shade(depth: int, deepest: int, colours: Colours) -> tuple[float, float, float, float]:
    from matplotlib.colors import to_rgba

    return to_rgba(colours.right, 0.14 + 0.5 * depth / deepest)


def _tree(tree: Tree, colours: Colours) -> bytes:
    """What the draft guessed to follow the last known token; what the target accepted runs along the top."""
    placed = layout(tree)
    nodes = list(zip(tree.depths, placed.rows, tree.texts, strict=True))
    own = (tree.depths[tree.last] + 1, placed.own_row, tree.own)
    yes, no = colours.right, colours.theme.line
    num_columns = max(depth for depth, _, _ in [*nodes, own]) + 1
    with new_figure(num_columns * NODE_WIDTH, (placed.num_rows + 1.2) * NODE_HEIGHT, colours.theme) as figure:
        axes = _blank(figure, num_columns, placed.num_rows + 1.2)
        for node, parent in enumerate(tree.parents):
            if parent >= 0:
                right = node in tree.accepted
                _edge(axes, nodes[parent], nodes[node], yes if right else no, 2.2 if right else 1.2)
        _edge(axes, nodes[tree.last], own, colours.own, 1.6)
        for node, at in enumerate(nodes):
            _node(axes, at, yes if node in tree.accepted else no, filled=node in tree.accepted)
        _node(axes, own, colours.own, filled=True)
        keys = {"accepted": yes, "rejected": no, "the target's own": colours.own}
        _legend(axes, keys)
        return as_png(figure)


def _edge(axes: Any, start: tuple[int, int, str], end: tuple[int, int, str], color: str, width: float) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    (x0, y0, _), (x1, y1, _) = start, end
    points = [(x0 + 0.86, y0 + 0.5), (x0 + 0.96, y0 + 0.5), (x1 - 0.06, y1 + 0.5), (x1 + 0.04, y1 + 0.5)]
    path = Path(points, [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4])
    axes.add_patch(PathPatch(path, fill=False, edgecolor=color, linewidth=width))


def _node(axes: Any, at: tuple[int, int, str], color: str, *, filled: bool) -> None:
    from matplotlib.colors import to_rgba

    depth, row, text = at
    _box(axes, (depth + 0.04, row + 0.14), 0.82, 0.72, color=to_rgba(color, 0.2) if filled else "none", edge=color)
    _write(axes, depth + 0.1, row + 0.5, _label(text), family="monospace", fontsize=8)


def _label(text: str) -> str:
    """A token on one short line, its spaces and control characters made visible."""
    shown = repr(text)[1:-1].replace(" ", "·")
    return shown[: LONGEST_LABEL - 1] + "…" if len(shown) > LONGEST_LABEL else shown or "∅"


def _frames(looks: Sequence[Look], paint: Paint, keys: dict[str, Any], colours: Colours) -> bytes:
    """All frames, painted over, with the second at which each is seen."""
    num_columns = min(8, math.ceil(math.sqrt(1.6 * len(looks))))
    num_rows = math.ceil(len(looks) / num_columns)
    tiles = [paint(_tile(look), look) for look in looks]
    height = max(tile.shape[0] for tile in tiles) / TILE_WIDTH + 0.16  # in widths of a tile, with its caption
    with new_figure(num_columns * 1.4, (num_rows * height + 0.25) * 1.4, colours.theme) as figure:
        axes = _blank(figure, num_columns, num_rows * height + 0.25)
        for number, (tile, look) in enumerate(zip(tiles, looks, strict=True)):
            x, y = number % num_columns, number // num_columns * height
            bottom = y + 0.03 + 0.94 * tile.shape[0] / tile.shape[1]
            shown = tile.clip(0, 255).astype(np.uint8)
            axes.imshow(shown, extent=(x + 0.03, x + 0.97, bottom, y + 0.03), aspect="auto", interpolation="none")
            if look.seconds is not None:
                _write(axes, x + 0.03, bottom + 0.075, f"{look.seconds:.2f} s", color=colours.first, fontsize=7)
        axes.set(xlim=(0, num_columns), ylim=(num_rows * height + 0.25, 0))
        _legend(axes, keys)
        return as_png(figure)


def _tile(look: Look) -> Float[np.ndarray, "H W 3"]:
    """A look's first frame, in a size of which its grid is an even part."""
    rows, columns = look.scores.shape
    frame: UInt8[np.ndarray, "h w 3"] = look.frames[0]
    width = max(1, round(TILE_WIDTH / columns)) * columns
    height = max(1, round(width * frame.shape[0] / frame.shape[1] / rows)) * rows
    return np.asarray(Image.fromarray(frame).resize((width, height)), dtype=np.float64)


def _lit(colours: Colours, tile: Float[np.ndarray, "H W 3"], look: Look) -> Float[np.ndarray, "H W 3"]:
    """What the draft saw keeps its light, in a frame of its stage's colour."""
    rows, columns = look.stages.shape
    height, width = tile.shape[0] // rows, tile.shape[1] // columns
    painted = tile * DIMMED
    for row, column in zip(*np.nonzero(look.stages), strict=True):
        cell = np.s_[row * height : (row + 1) * height, column * width : (column + 1) * width]
        edge = max(1, min(height, width) // 12)
        painted[cell] = _rgb(colours.one if look.stages[row, column] == 1 else colours.two)
        painted[cell][edge:-edge, edge:-edge] = tile[cell][edge:-edge, edge:-edge]
    return painted


def _heated(
    explanation: Explanation, colours: Colours, tile: Float[np.ndarray, "H W 3"], look: Look
) -> Float[np.ndarray, "H W 3"]:
    """A ring in each place, the larger the more the target attends to it: what it looks at stays to be seen."""
    rows, columns = look.scores.shape
    height, width = tile.shape[0] // rows, tile.shape[1] // columns
    y, x = np.mgrid[:height, :width]
    distance = np.hypot(y - (height - 1) / 2, x - (width - 1) / 2)
    painted = tile.copy()
    for (row, column), warmth in np.ndenumerate(explanation.warmth(look)):
        radius, line = LARGEST * warmth * min(height, width) / 2, max(1.0, min(height, width) / 30)
        alpha = np.where(distance <= radius, FILLED, 0.0)
        alpha[(distance <= radius) & (distance > radius - line)] = 1.0
        cell = np.s_[row * height : (row + 1) * height, column * width : (column + 1) * width]
        painted[cell] = tile[cell] * (1 - alpha[..., None]) + _rgb(colours.heat) * alpha[..., None]
    return painted


def _rgb(color: str) -> Float[np.ndarray, "3"]:
    from matplotlib.colors import to_rgb

    return 255 * np.array(to_rgb(color))


def _blank(figure: Any, width: Number, height: Number) -> Any:
    """Axes over the whole figure, in units of one's own, y downwards."""
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    return axes


def _box(axes: Any, xy: tuple[Number, Number], width: Number, height: Number, color: Any, edge: Any = "none") -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle(xy, width, height, facecolor=color, edgecolor=edge))


def _write(axes: Any, x: Number, y: Number, text: str, **style: Any) -> None:
    style = {"fontsize": FONT_SIZE, **style}
    axes.text(x, y, text, verticalalignment="center", parse_math=False, **style)  # a $ is a dollar


def _legend(axes: Any, keys: dict[str, Any]) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(facecolor=color, label=text) for text, color in keys.items()]
    axes.legend(handles=handles, loc="lower left", ncols=len(keys), frameon=False, fontsize=8, borderaxespad=0.3)
