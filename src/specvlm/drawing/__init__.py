"""Drawing: the one look of all plots and pictures, on a light ground and on a dark one."""

from specvlm.drawing.bars import pairs, stacked
from specvlm.drawing.figures import DPI, as_png, as_svg, new_figure, require
from specvlm.drawing.labelling import label_ends
from specvlm.drawing.themes import DARK, LIGHT, THEMES, Theme

__all__ = [
    "DARK",
    "DPI",
    "LIGHT",
    "THEMES",
    "Theme",
    "as_png",
    "as_svg",
    "label_ends",
    "new_figure",
    "pairs",
    "require",
    "stacked",
]
