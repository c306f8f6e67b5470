"""Files that are there whole, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

ESCAPED = "backslashreplace"
"""A surrogate becomes six characters, `\\udce9`: in a string of JSON that is the same surrogate again."""


def write_whole(path: Path, text: str) -> None:
    """Write a file beside its place, and move it there when it is on the disk: a kill leaves the old one, or none.

    What is no letter (a byte of a file's name that is no UTF-8) is escaped as JSON does it, and comes back from JSON.
    """
    beside = path.with_name(f".{path.name}.new")
    with beside.open("w", encoding="utf-8", errors=ESCAPED) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
