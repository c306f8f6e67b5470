"""Where files will be written to: looked at before anything is done in vain."""

from __future__ import annotations

import os
from pathlib import Path

from specvlm.errors import OptionError, brief


def require_file(path: Path, what: str, *, inputs: tuple[str, ...] = ()) -> None:
    """Errors: OptionError if a file can't be written there, or if it is one of those that are read."""
    if path.is_dir():
        raise OptionError(f"{what}: {brief(path)} is a folder: name a file")
    if not path.parent.is_dir():
        raise OptionError(f"{what}: there is no folder {brief(path.parent)} to write {brief(path.name)} to")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise OptionError(f"{what}: {brief(path)} can't be written: it is protected")
    for source in inputs:
        if path.exists() and Path(source).exists() and path.samefile(source):
            raise OptionError(f"{what}: {brief(path)} is read: writing there would be the end of it. Name another file")


def require_folder(path: Path, what: str, *, inputs: tuple[str, ...] = ()) -> None:
    """Make a folder, if it isn't there. Errors: OptionError if it can't be made or written to, or if it is, or lies in,
    a folder that is read."""
    for source in inputs:
        if Path(source).is_dir() and path.resolve().is_relative_to(Path(source).resolve()):
            raise OptionError(
                f"{what}: {brief(path)} is in {brief(source)}, which is read: name a folder outside of it"
            )
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"{what}: can't make the folder {brief(path)}: {error.strerror}") from None
    if not os.access(path, os.W_OK):
        raise OptionError(f"{what}: the folder {brief(path)} can't be written to: it is protected")
