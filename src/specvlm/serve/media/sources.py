"""Sources: videos as they were sent, kept while they are asked about, and for a while behind that."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import final

from specvlm.serve.media.decoding import Content


@dataclass(frozen=True)
class Clip:
    """A video that is asked about: equal if it surely is the same, and looked at alike."""

    key: str
    max_frames: int | None = None
    is_image: bool = False


@final
class Sources:
    """What stands behind keys. Those in use are kept, others as many as `max_bytes` hold: the oldest go first.

    May be used by several threads.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._contents: dict[str, Content] = {}
        self._in_use: Counter[str] = Counter()
        self._keys: dict[str, str] = {}
        """By the `uuid` that a client gave."""
        self._lock = threading.Lock()

    def take(self, key: str, content: Content, uuid: str | None = None) -> None:
        """A video of this key (`key_of`) is in use until it was given back as often."""
        with self._lock:
            self._contents[key] = self._contents.pop(key, content)  # the last one is the most recent
            self._in_use[key] += 1
            if uuid is not None:
                self._keys[uuid] = key

    def take_again(self, uuid: str) -> str | None:
        """The key of a video that was sent with this `uuid`, if it is still here."""
        with self._lock:
            key = self._keys.get(uuid)
            if key is None or key not in self._contents:
                return None
            self._contents[key] = self._contents.pop(key)
            self._in_use[key] += 1
            return key

    def give_back(self, key: str) -> None:
        with self._lock:
            self._in_use[key] -= 1
            self._in_use += Counter()  # without those that are at 0
            self._trim()

    def __getitem__(self, key: str) -> Content:
        with self._lock:
            return self._contents[key]

    @property
    def nbytes(self) -> int:
        with self._lock:
            return self._sum()

    def _sum(self) -> int:
        return sum(map(_size, self._contents.values()))

    def _trim(self) -> None:
        left = self._sum()
        for key in [key for key in self._contents if key not in self._in_use]:
            if left <= self.max_bytes:
                break
            left -= _size(self._contents.pop(key))
        self._keys = {uuid: key for uuid, key in self._keys.items() if key in self._contents}


LEAST = 4096
"""What a content counts at least: there may be many small ones."""


def _size(content: Content) -> int:
    return max(
        LEAST,
        0 if isinstance(content, Path) else sum(map(len, content)) if isinstance(content, tuple) else len(content),
    )


def key_of(content: Content) -> str:
    """What tells contents apart: a digest of all bytes, or the name, size and time of change of a file.

    Errors: OSError for a file that is gone.
    """
    digest = hashlib.blake2b(digest_size=32)
    if isinstance(content, Path):
        facts = content.stat()
        digest.update(repr((str(content), facts.st_size, facts.st_mtime_ns)).encode("utf-8", "surrogateescape"))
        return "file:" + digest.hexdigest()
    if isinstance(content, bytes):
        digest.update(content)
        return "bytes:" + digest.hexdigest()
    for picture in content:
        digest.update(hashlib.blake2b(picture).digest())
    return "pictures:" + digest.hexdigest()
