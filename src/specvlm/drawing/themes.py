"""Themes: the colours of a picture, on a light ground and on a dark one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True)
class Theme:
    """Colours as `#rrggbb`. Those for lines and bars stand out from the ground at least 3 to 1, as WCAG 2 asks of
    graphics, and neighbours among them differ in lightness: colour-blind readers tell them apart too."""

    name: str
    ground: str
    ink: str
    faint: str
    """Of what is said on the side."""
    line: str
    """Of what divides."""
    colours: tuple[str, ...]

    def colour(self, number: int) -> str:
        return self.colours[number % len(self.colours)]

    def upon(self, fill: str) -> str:
        """The ink that reads best on a fill."""
        return max(("#ffffff", "#111111"), key=lambda ink: contrast(ink, fill))


LIGHT = Theme(
    name="light",
    ground="#ffffff",
    ink="#1d1c1a",
    faint="#6b675f",
    line="#cfcabf",
    colours=(
        *("#0072b2", "#cc4f00", "#007f5f", "#a8439a", "#a97400", "#66702a"),
        *("#7a1f4f", "#3987bf", "#4b4b8f", "#8a817c"),
    ),
)
DARK = Theme(
    name="dark",
    ground="#1f1e1b",
    ink="#ece9e2",
    faint="#a8a398",
    line="#4a473f",
    colours=(
        *("#56b4e9", "#ff8f45", "#35c79b", "#e193d6", "#f2c14e", "#c3cc72"),
        *("#f08fae", "#a9dcff", "#a8a6ee", "#b8b0a8"),
    ),
)
THEMES = (LIGHT, DARK)


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours, 1 to 21, as WCAG 2 defines it."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
