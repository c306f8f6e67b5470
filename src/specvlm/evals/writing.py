"""Files that are there whole, or not at all, and nowhere but where they were asked for."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from specvlm.errors import OptionError, brief

ESCAPED = "backslashreplace"
"""A surrogate becomes six characters, `\\udce9`: in a string of JSON that is the same surrogate again."""

OPENED = sum(getattr(os, name, 0) for name in ("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
"""How files are opened in a folder that may be somebody else's: no link is followed, and no pipe is waited for."""


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file beside its place, and move it there when it is on the disk: a kill leaves the old one, or none.

    A file that was there keeps its mode. What is no letter (a byte of a file's name that is no UTF-8) is escaped as
    JSON does it, and comes back from JSON. Errors: OptionError if a link, a device or anything else that is no file
    stands there; OSError with the file's name if the system won't have it, and then the old file is as it was.
    """
    there = require_regular(path)
    beside = path.with_name(f".{path.name}.new")
    with suppress(FileNotFoundError):  # of a kill, or a link that somebody laid
        beside.unlink()
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | OPENED, 0o666), "wb") as file:
            if there is not None:
                beside.chmod(stat.S_IMODE(there.st_mode))
            file.write(content.encode(errors=ESCAPED) if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:  # of a full disk it doesn't say which file, and half of one is of no use
        with suppress(OSError):
            beside.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from error


def require_regular(path: Path) -> os.stat_result | None:
    """What is known of a file; None if there is nothing. Errors: OptionError if there is something else."""
    there = _status(path)
    if there is not None and not stat.S_ISREG(there.st_mode):
        raise OptionError(f"{brief(path)} is {_kind(there)}, and is not written to: remove it, or name another place")
    return there


def require_own_folder(path: Path) -> None:
    """Make a folder of our own in another one, if it isn't there. Errors: OptionError if a link or a file is."""
    there = _status(path)
    if there is None:
        path.mkdir()
    elif not stat.S_ISDIR(there.st_mode):
        raise OptionError(f"{brief(path)} is {_kind(there)}, and no folder: remove it, or name another place")


def inside(folder: Path, name: str) -> Path:
    """The path of a file in a folder. Errors: OptionError for a name that leads anywhere else."""
    if name in ("", ".", "..") or any(letter in name for letter in "/\\\0"):
        raise OptionError(f"{brief(repr(name))} is no name of a file in {brief(folder)}, and is not written")
    return folder / name


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except FileNotFoundError:
        return None


def _kind(there: os.stat_result) -> str:
    kinds = {
        stat.S_IFLNK: "a link",
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFREG: "a file",
    }
    return kinds.get(stat.S_IFMT(there.st_mode), "no regular file")
