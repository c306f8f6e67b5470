"""Files that are none: what Linux shows of itself in /proc and /sys.

They are called regular files of no size, and reading one may wait for ever, never end, or change something.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

PLACES = (Path("/proc"), Path("/sys"))


def of_the_kernel(path: Path) -> bool:
    """Whether a file or folder, or what a link leads to, lies in one of these. What isn't there does not."""
    try:
        return path.stat().st_dev in _devices()
    except (OSError, ValueError):
        return False


@cache
def _devices() -> frozenset[int]:
    """Their file systems, as far as they have one of their own."""
    return frozenset(place.stat().st_dev for place in PLACES if place.is_dir()) - {Path("/").stat().st_dev}
