"""Shelf: where the videos of a data set are, however its archives were unpacked."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import final

from specvlm.errors import VideoError
from specvlm.video.addresses import resolved
from specvlm.video.doors import existing
from specvlm.video.stills import PICTURES

SUFFIXES = {".3gp", ".avi", ".flv", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"}


class MissingVideoError(ValueError):
    """There is no such video, or more than one."""


@final
class Shelf:
    """The videos below a folder, and the folders of pictures that stand for videos."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, name: str, *, within: str = "") -> Path:
        """The video of this name, which may begin with folders and go without a suffix.

        `within` are folders to prefer, wherever below the root they are. A name with a suffix that isn't there finds a
        video with another one: data sets are published as mp4 and kept as mkv. A `file:` URI says itself where its
        video is. Errors: MissingVideoError.
        """
        if name.lower().startswith("file:"):
            return _named(name)
        *folders, last = PurePosixPath(name.replace("\\", "/")).parts or ("",)
        found = [path for path in self._by_stem.get(_stem(last), []) if _ends(path.parts[:-1], folders)]
        for prefers in (
            lambda path: path.name == last,
            lambda path: path.name.lower() == last.lower(),
            lambda path: within != "" and _ends(path.parts[:-1], [*PurePosixPath(within).parts, *folders]),
        ):
            found = [path for path in found if prefers(path)] or found
        if not found:
            raise MissingVideoError(f"there is no video {name!r} in {self.root}")
        if len(found) > 1:
            raise MissingVideoError(f"there are {len(found)} videos {name!r} in {self.root}: {found[0]}, {found[1]}")
        return self.root / found[0]

    @property
    def names(self) -> list[str]:
        """All videos that are files, by their paths from the root, sorted."""
        paths = [path for paths in self._by_stem.values() for path in paths]
        return sorted(path.as_posix() for path in paths if path.suffix.lower() in SUFFIXES)

    @cached_property
    def _by_stem(self) -> dict[str, list[PurePosixPath]]:
        index: dict[str, list[PurePosixPath]] = {}
        for place, folders, files in os.walk(self.root, followlinks=True):
            folders.sort()
            here = PurePosixPath(Path(place).relative_to(self.root).as_posix())
            for file in sorted(files):
                if not file.startswith(".") and Path(file).suffix.lower() in SUFFIXES:
                    index.setdefault(_stem(file), []).append(here / file)
            if any(Path(file).suffix.lower() in PICTURES for file in files):
                index.setdefault(_stem(here.name), []).append(here)
        return index


def _named(uri: str) -> Path:
    try:
        return existing(resolved(uri))
    except VideoError as error:
        raise MissingVideoError(str(error)) from error


def _stem(name: str) -> str:
    """A name without the suffix of a video; another dot, as in `v1.2`, belongs to the name."""
    suffix = PurePosixPath(name).suffix
    return (name[: -len(suffix)] if suffix.lower() in SUFFIXES else name).casefold()


def _ends(parts: tuple[str, ...], ending: list[str]) -> bool:
    return not ending or parts[-len(ending) :] == tuple(ending)
