"""How matplotlib is asked for a picture, and what it is kept as."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from specvlm.drawing.themes import LIGHT, Theme
from specvlm.errors import OptionError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "svg.fonttype": "none",
    "svg.hashsalt": "specvlm",  # the same picture gives the same file
}
DPI = 200


def require() -> None:
    """Errors: OptionError if matplotlib isn't installed, before anything is done in vain."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise OptionError("pictures are drawn by matplotlib, which isn't installed: pip install matplotlib") from None


@contextmanager
def new_figure(width: float, height: float, theme: Theme = LIGHT) -> Iterator[Figure]:
    """An empty figure of so many inches, in our style within the block: save it there. Errors: OptionError.

    Letters that its font lacks (of Chinese, say) are drawn as boxes.
    """
    require()
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE | _colours(theme)), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield Figure(figsize=(width, height), layout="constrained")


def _colours(theme: Theme) -> dict[Any, Any]:
    grounds = ("figure.facecolor", "axes.facecolor")
    inks = ("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.labelcolor", "ytick.labelcolor")
    lines = ("axes.edgecolor", "xtick.color", "ytick.color")
    return dict.fromkeys(grounds, theme.ground) | dict.fromkeys(inks, theme.ink) | dict.fromkeys(lines, theme.faint)


def as_svg(figure: Figure) -> str:
    """A whole SVG document."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def as_png(figure: Figure) -> bytes:
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=DPI, metadata={"Software": None})
    return data.getvalue()
