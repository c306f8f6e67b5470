"""The ways in which the bytes of a file are handed over: a path, the bytes themselves, an open file."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from specvlm.errors import VideoError, brief
from specvlm.video.files.addresses import resolved
from specvlm.video.files.container import BinaryFile, blaming
from specvlm.video.files.kernel import of_the_kernel

MOST_HELD, PIECE = 1 << 30, 1 << 20
"""Bytes of a pipe, which are kept in memory."""


@contextmanager
def binary(source: Any, kind: str) -> Iterator[tuple[BinaryFile, str]]:
    """A seekable file with the bytes of a path, a URI, bytes or an open file, and what to call it in messages.

    An open file is left open, and where it stood; one that can't seek is read to its end. `kind` says what it should
    hold. Errors: `VideoError`.
    """
    source = resolved(source)
    if isinstance(source, str | os.PathLike):
        name = os.fsdecode(source)
        with blaming(name, kind):
            file = existing(name).open("rb")
        with file:
            yield file, brief(name)
    elif isinstance(source, bytes | bytearray | memoryview):
        yield io.BytesIO(source), f"the {kind} of {len(source)} bytes"
    else:
        with _left_as_found(source, kind) as found:
            yield found


def existing(name: str) -> Path:
    """The path of a file, or of a folder. `VideoError` if there is nothing there that can be opened twice."""
    path = Path(name)
    if not name or not path.exists():
        raise VideoError(f"there is no file {brief(repr(name))}")
    if of_the_kernel(path) or not (path.is_dir() or path.is_file()):
        raise VideoError(f"{brief(name)} is neither a file nor a folder: open it yourself and pass the open file")
    return path


@contextmanager
def _left_as_found(file: Any, kind: str) -> Iterator[tuple[BinaryFile, str]]:
    name = brief(file.name) if isinstance(getattr(file, "name", None), str) else "the open file"
    with blaming(name, kind):
        if not isinstance(file.read(0), bytes):
            raise VideoError(f"{name} is open as text: open it with mode 'rb'")
        try:
            position = file.tell()
            file.seek(position)
        except (AttributeError, OSError):  # a pipe can't go back: keep what it gives
            position, file = None, _all_of(file, name)
    try:
        yield file, name
    finally:
        if position is not None:
            file.seek(position)


def _all_of(file: Any, name: str) -> io.BytesIO:
    held = io.BytesIO()
    while piece := file.read(PIECE):
        held.write(piece)
        if held.tell() > MOST_HELD:
            raise VideoError(f"{name} can't go back, and has more than {MOST_HELD >> 20} MiB: save it in a file first")
    held.seek(0)
    return held
