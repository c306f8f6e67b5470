"""Where files will be written to: looked at before anything is done in vain."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from specvlm.cli.screen import waiting
from specvlm.errors import OptionError, VideoError, brief


def require_file(path: Path, what: str, *, inputs: tuple[str, ...] = ()) -> Path:
    """Where a file will be written: `path`, or what it leads to if it is a link, for whoever named it chose it.

    Errors: OptionError if it can't be written there, if anything but a file is there (a device, a pipe), or if it is,
    or lies in, one of those that are read.
    """
    path = Path(os.path.realpath(_at_home(path)))
    if path.is_dir():
        raise OptionError(f"{what}: {brief(path)} is a folder: name a file")
    if not path.parent.is_dir():
        raise OptionError(f"{what}: there is no folder {brief(path.parent)} to write {brief(path.name)} to")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise OptionError(f"{what}: {brief(path)} can't be written: it is protected")
    if path.exists() and not path.is_file():
        raise OptionError(f"{what}: {brief(path)} is a device or a pipe: name a regular file")
    for source in _paths(inputs):
        if path.exists() and path.samefile(source):
            raise OptionError(f"{what}: {brief(path)} is read: writing there would be the end of it. Name another file")
        _refuse_within(path, source, what, "file")
    return path


def require_folder(path: Path, what: str, *, inputs: tuple[str, ...] = ()) -> Path:
    """A folder that will be written to, made if it isn't there. Errors: OptionError if it can't be made or written to,
    or if it is, or lies in, a folder that is read."""
    path = _at_home(path)
    for source in _paths(inputs):
        _refuse_within(path, source, what, "folder")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"{what}: can't make the folder {brief(path)}: {error.strerror}") from None
    if not os.access(path, os.W_OK):
        raise OptionError(f"{what}: the folder {brief(path)} can't be written to: it is protected")
    return path


def require_places(folder: Path, names: Iterable[str], what: str) -> None:
    """Errors: OptionError if files of these names can't be written into a folder that is there."""
    for name in names:
        if os.path.lexists(folder / name):
            there = folder / name
            if there.is_symlink() or not there.is_file():
                raise OptionError(f"{what}: {brief(there)} is in the way: it is no regular file")
            require_file(there, what)


def require_apart(folder: Path, names: Iterable[str], what: str, *, inputs: tuple[str, ...]) -> None:
    """Errors: OptionError if a file of one of these names in the folder is one of those that are read."""
    for name in names:
        if (folder / name).exists():
            require_file(folder / name, what, inputs=inputs)


def _at_home(path: Path) -> Path:
    with waiting("Loading"):
        from specvlm.video.files.addresses import at_home  # behind PyTorch, which the help doesn't wait for

    return at_home(path)


def _paths(inputs: Iterable[str]) -> Iterator[Path]:
    """Those that are here: a model may be a name, and a video its bytes or the URI of a file."""
    with waiting("Loading"):
        from specvlm.video.files.addresses import resolved  # behind PyTorch, which the help doesn't wait for

    for source in filter(None, inputs):
        try:
            found = resolved(source)
        except VideoError:  # told where it is opened
            continue
        if isinstance(found, str | os.PathLike) and Path(found).exists():
            yield Path(found)


def _refuse_within(path: Path, source: Path, what: str, kind: str) -> None:
    if source.is_dir() and path.resolve().is_relative_to(source.resolve()):
        raise OptionError(f"{what}: {brief(path)} is in {brief(source)}, which is read: name a {kind} outside of it")
