"""Disk: tensors in files of one folder, for any number of processes at once.

A file is written under another name and put in its place whole, so that a process may be killed anywhere. What is read
is believed only if all of it is what was written: each tensor has a digest, and the file's name has a part in the seal
over them. What isn't believed is removed. No process waits for another: of two that write the same, the later counts.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

SUFFIX, UNFINISHED = ".safetensors", ".part"

PARTS = ("told", "shapes", "digests")
"""What stands in a file beside its tensors, under a seal."""

ABANDONED = 3600.0
"""Seconds after which a file that nobody finished belongs to a process that was killed."""


class UnbelievableError(Exception):
    """An entry isn't what was written. Never leaves this package: whoever asked makes it anew."""


@final
@dataclass(frozen=True, eq=False)
class Entry:
    """One file, open: it may be removed meanwhile."""

    path: Path
    told: dict[str, Any]
    """What was written beside the tensors, as JSON has it."""
    shapes: dict[str, tuple[int, ...]]
    """Of its tensors, by their names."""
    _file: Any
    _digests: dict[str, str]

    def tensor(self, name: str) -> Tensor:
        """A copy, on the CPU, read now. Errors: UnbelievableError."""
        with _believing(self.path):
            tensor = self._file.get_tensor(name).clone()
            _require(digest(tensor) == self._digests[name])
            return tensor


@final
@dataclass(frozen=True)
class Disk:
    """A folder of entries, which take `max_bytes` at most: those used least recently go first."""

    folder: Path
    max_bytes: int

    def read(self, name: str) -> Entry | None:
        """The entry of this name; None if there is none, or none to believe. Its tensors are looked at when read."""
        path = self._path(name)
        with suppress(UnbelievableError), _believing(path):
            file: Any = safe_open(path, framework="pt")
            written = file.metadata()
            _require(written["seal"] == _seal(name, written["told"], written["shapes"], written["digests"]))
            told, shapes, digests = (json.loads(written[part]) for part in PARTS)
            with suppress(OSError):
                os.utime(path)  # it was used
            return Entry(path, told, {key: tuple(shape) for key, shape in shapes.items()}, file, digests)
        return None

    def write(self, name: str, tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> None:
        """A disk that can't be written to costs time, not the answer."""
        size = sum(tensor.nbytes for tensor in tensors.values())
        if size > self.max_bytes:
            return
        whole = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        shapes = {key: list(tensor.shape) for key, tensor in whole.items()}
        digests = {key: digest(tensor) for key, tensor in whole.items()}
        written = dict(zip(PARTS, map(json.dumps, (told, shapes, digests)), strict=True))
        fresh = self.folder / f"{name}.{os.getpid()}-{secrets.token_hex(4)}{UNFINISHED}"
        with suppress(OSError, SafetensorError):
            self._make_room(size)
            try:
                save_file(whole, fresh, written | {"seal": _seal(name, *written.values())})
                with fresh.open("rb") as file:
                    os.fsync(file.fileno())  # or the name might outlive the content
                fresh.replace(self._path(name))
            finally:
                fresh.unlink(missing_ok=True)

    def knows(self, beginning: str) -> bool:
        """Whether there is an entry whose name begins so."""
        return next(self.folder.glob(f"{beginning}*{SUFFIX}"), None) is not None

    @property
    def nbytes(self) -> int:
        """Bytes that the folder's files have, unfinished ones among them."""
        return sum(size for _, size, _ in self._files())

    def _make_room(self, size: int) -> None:
        """Remove what was abandoned, and what was used least recently, until so many bytes are left."""
        files = sorted(self._files())
        total = sum(size for _, size, _ in files)
        for used, held, path in files:
            gone = time.time() - used > ABANDONED if path.suffix == UNFINISHED else total + size > self.max_bytes
            if gone:
                with suppress(OSError):  # another process has removed it, or (on Windows) has it open
                    path.unlink()
                    total -= held

    def _files(self) -> list[tuple[float, int, Path]]:
        """When each was used last, its bytes, and where it is."""
        found = []
        for path in self.folder.iterdir():
            if path.suffix in (SUFFIX, UNFINISHED):
                with suppress(OSError):
                    facts = path.stat()
                    found.append((facts.st_mtime, facts.st_size, path))
        return found

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}{SUFFIX}"


@contextmanager
def _believing(path: Path) -> Iterator[None]:
    """A block that reads an entry. Errors: UnbelievableError for whatever goes wrong; what isn't whole is removed."""
    try:
        yield
    except OSError as error:  # not there, or not now: that says nothing of what it holds
        raise UnbelievableError(path.name) from error
    except Exception as error:
        with suppress(OSError):
            path.unlink()
        raise UnbelievableError(path.name) from error


def digest(tensor: Tensor) -> str:
    """Of a tensor on the CPU: its numbers to the bit, its dtype and its shape."""
    found = hashlib.blake2b(f"{tensor.dtype} {list(tensor.shape)}".encode(), digest_size=32)
    found.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def key(facts: Any, length: int = 32) -> str:
    """A name for facts, as JSON has them."""
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:length]


def _seal(name: str, *parts: str) -> str:
    return key([name, *parts], 64)


def _require(so: bool) -> None:
    if not so:
        raise ValueError
