"""Open files, checksums over stretches of them, and how FFmpeg reads one: without its name, and not for ever."""

from __future__ import annotations

import os
import zlib
from threading import Lock
from typing import NamedTuple, Protocol, runtime_checkable

PIECE = 1 << 20
"""Bytes that are read at once for a checksum."""


@runtime_checkable
class BinaryFile(Protocol):
    """What is needed of an open file: bytes, from anywhere in it."""

    def read(self, size: int = -1, /) -> bytes: ...
    def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def tell(self) -> int: ...


class Seal(NamedTuple):
    """A checksum over the bytes from `start` to `stop`."""

    start: int
    stop: int
    checksum: int

    def is_whole(self, file: BinaryFile) -> bool:
        file.seek(self.start)
        left, found = self.stop - self.start, 0
        while left and (data := file.read(min(left, PIECE))):
            left, found = left - len(data), zlib.crc32(data, found)
        return not left and found == self.checksum


class Reading:
    """A file without its name and without `close`: FFmpeg shall judge by content, and leave the file open. It begins at
    the file's start, and has a place of its own in it."""

    def __init__(self, file: BinaryFile, lock: Lock, patience: int | None = None) -> None:
        """`patience`: bytes that are read in vain before the file counts as ended (`heard` tells when they weren't)."""
        self._file, self._lock, self._place = file, lock, 0
        self.patience, self._in_vain = patience, 0

    def heard(self) -> None:
        """Something came of what was read. A file that was given up stays so: a decoder's last packet comes behind."""
        self._in_vain *= self.in_vain is not None

    @property
    def in_vain(self) -> str | None:
        """What is told of a file that was given up."""
        given_up = self.patience is not None and self._in_vain > self.patience
        return f"no frame comes of the {self._in_vain} bytes up to byte {self._place}" if given_up else None

    def read(self, size: int) -> bytes:
        if self.in_vain:  # an error would be raised at each of FFmpeg's next tries, and PyAV prints all but one
            return b""
        with self._lock:
            self._file.seek(self._place)
            data = self._file.read(size)
        self._place += len(data)
        self._in_vain += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with self._lock:
            if whence == os.SEEK_CUR:
                offset, whence = offset + self._place, os.SEEK_SET
            self._place = self._file.seek(offset, whence)
        return self._place

    def tell(self) -> int:
        return self._place
