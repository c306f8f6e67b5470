"""Shelf: where the videos of a data set are, however its archives were unpacked."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import final

from specvlm.errors import VideoError, brief
from specvlm.evals.run_folder import is_run
from specvlm.video.files.addresses import resolved
from specvlm.video.files.doors import existing
from specvlm.video.files.walking import walked
from specvlm.video.probing import is_called_a_video, is_video, suffixes
from specvlm.video.stills import PICTURES


class MissingVideoError(ValueError):
    """There is no such video, or more than one."""


@final
class Shelf:
    """The videos below a folder, and the folders of pictures that stand for videos. Hidden ones are none of its own,
    nor are folders of runs."""

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
        if len(found) > 1 or (found and found[0].name.lower() != last.lower()):  # subtitles, perhaps, or a poster
            found = [path for path in found if (self.root / path).is_dir() or self._is_video(path)]
        if not found:
            raise MissingVideoError(f"there is no video {brief(repr(name))} in {self.root}")
        if len(found) > 1:
            several = f"{found[0]}, {found[1]}"
            raise MissingVideoError(f"there are {len(found)} videos {brief(repr(name))} in {self.root}: {several}")
        return self.root / found[0]

    @property
    def names(self) -> list[str]:
        """All videos that are files, by their paths from the root, sorted."""
        return [path.as_posix() for path in self._files if self._is_video(path)]

    @property
    def passed_over(self) -> list[str]:
        """The other files, and the folders of runs, by their paths from the root, sorted."""
        rest = [path.as_posix() for path in self._files if not self._is_video(path)]
        return sorted([*rest, *(f"{path.as_posix()}/" for path in self._walked[1])])

    def _is_video(self, path: PurePosixPath) -> bool:
        """Whether it is one or, where it can't be read, is called one: then that has to be told, not passed over."""
        if path not in self._probed:
            self._probed[path] = is_video(self.root / path) or is_called_a_video(path.name)
        return self._probed[path]

    @cached_property
    def _probed(self) -> dict[PurePosixPath, bool]:
        return {}

    @property
    def _files(self) -> list[PurePosixPath]:
        return sorted(here / file for here, files in self._walked[0] for file in files)

    @cached_property
    def _walked(self) -> tuple[list[tuple[PurePosixPath, list[str]]], list[PurePosixPath]]:
        """The folders with their files, and the folders of runs, which hold none of ours."""
        runs: list[PurePosixPath] = []

        def has_run(path: Path, here: PurePosixPath) -> bool:
            if found := is_run(path):
                runs.append(here)
            return found

        return list(walked(self.root, has_run)), runs

    @cached_property
    def _by_stem(self) -> dict[str, list[PurePosixPath]]:
        index: dict[str, list[PurePosixPath]] = {}
        for here, files in self._walked[0]:
            for file in files:
                stems = {_stem(file)}
                if re.search("[a-z]", Path(file).suffix.lower()):  # of a camera that FFmpeg has no name for, perhaps
                    stems.add(Path(file).stem.casefold())
                for stem in stems:
                    index.setdefault(stem, []).append(here / file)
            if any(Path(file).suffix.lower() in PICTURES for file in files):
                index.setdefault(_stem(here.name), []).append(here)
        return index


def _named(uri: str) -> Path:
    try:
        return existing(resolved(uri))
    except VideoError as error:
        raise MissingVideoError(str(error)) from error


def _stem(name: str) -> str:
    """A name without the suffix of a file of FFmpeg's; another dot, as in `v1.2`, belongs to the name."""
    suffix = PurePosixPath(name).suffix
    return (name[: -len(suffix)] if suffix.lower() in suffixes() else name).casefold()


def _ends(parts: tuple[str, ...], ending: list[str]) -> bool:
    return not ending or parts[-len(ending) :] == tuple(ending)
