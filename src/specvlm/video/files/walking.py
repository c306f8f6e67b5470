"""All folders below one, links followed, in a time that has an end: whatever leads in circles, or to the kernel."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from specvlm.errors import OptionError, brief
from specvlm.video.files.kernel import of_the_kernel

MOST = 1_000_000
"""Files and folders that are looked at."""

Place = tuple[int, int]
"""What a folder is known by, whatever led to it: its file system, and its number there."""


def walked(
    root: Path, is_passed_over: Callable[[Path, PurePosixPath], bool]
) -> Iterator[tuple[PurePosixPath, list[str]]]:
    """Each folder by its path from the root, with the names of its files, both sorted; hidden ones are left out.

    Not gone into: a folder that leads back to one that it lies in, one of the kernel's, one that can't be read, one
    whose path is longer than the system takes, and one that `is_passed_over`, given it and its path from the root.
    Errors: OptionError for more than a million files and folders, as links between folders have them that lead from
    each to all.
    """
    left: list[tuple[PurePosixPath, frozenset[Place]]] = [(PurePosixPath(), frozenset())]
    num_seen = 0
    while left:
        here, above = left.pop()
        path = root / here
        place = _place(path)
        if place is None or place in above or of_the_kernel(path):
            continue
        folders, files = _listed(path)
        num_seen += len(folders) + len(files)
        if num_seen > MOST:
            raise OptionError(
                f"{brief(root)} leads to more than {MOST:,} files and folders, by links perhaps: name a smaller one"
            )
        yield here, files
        inside = above | {place}
        left += [(here / name, inside) for name in reversed(folders) if not is_passed_over(path / name, here / name)]


def _place(path: Path) -> Place | None:
    try:
        found = path.stat()
    except OSError:  # gone meanwhile, or a path that is too long
        return None
    return found.st_dev, found.st_ino


def _listed(path: Path) -> tuple[list[str], list[str]]:
    """The names of folders and of files in one, sorted."""
    folders, files = [], []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    (folders if _is_folder(entry) else files).append(entry.name)
    except OSError:
        return [], []
    return sorted(folders), sorted(files)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
