"""Drawing: the one look of all plots and pictures, and how matplotlib is asked for them."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from specvlm.errors import OptionError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#999999", "#000000")
"""Okabe and Ito's, which colour-blind readers tell apart too."""
SHADES = (
    *("#332288", "#88ccee", "#44aa99", "#117733", "#999933", "#ddcc77"),
    *("#cc6677", "#882255", "#aa4499", "#661100", "#6699cc", "#888888"),
)
"""Tol's twelve, for phases."""
GREY = "#888888"
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "svg.fonttype": "none",
    "svg.hashsalt": "specvlm",  # the same picture gives the same file
}
DPI = 120


def require() -> None:
    """Errors: OptionError if matplotlib isn't installed, before anything is done in vain."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise OptionError("pictures are drawn by matplotlib, which isn't installed: pip install matplotlib") from None


@contextmanager
def new_figure(width: float, height: float) -> Iterator[Figure]:
    """An empty figure of so many inches, in our style within the block: save it there. Errors: OptionError.

    Letters that its font lacks (of Chinese, say) are drawn as boxes.
    """
    require()
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield Figure(figsize=(width, height), layout="constrained")


def as_svg(figure: Figure) -> str:
    """A whole SVG document."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def as_png(figure: Figure) -> bytes:
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=DPI, metadata={"Software": None})
    return data.getvalue()
