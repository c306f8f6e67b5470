"""The colours of an explanation's pictures: those of its page, on a light ground and on a dark one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from specvlm.drawing import DARK, LIGHT, Theme


@final
@dataclass(frozen=True)
class Colours:
    """The page's, in one of its themes, which has ink, lines and ground: stages of the pruner, the target's own tokens,
    the first token, guesses that were right, and what the target attends to."""

    theme: Theme
    one: str
    two: str
    own: str
    first: str
    right: str
    heat: str
    unseen: str
    """What the draft never saw, in the legend."""


BY_THEME = {
    LIGHT: Colours(
        LIGHT, one="#cc4f00", two="#1971c2", own="#5f3dc4", first="#77736b", right="#2b8a3e", heat="#ff3c00",
        unseen="#3b3a38",
    ),
    DARK: Colours(
        DARK, one="#ff922b", two="#4dabf7", own="#b197fc", first="#a8a398", right="#69db7c", heat="#ff3c00",
        unseen="#5b5952",
    ),
}  # fmt: skip
