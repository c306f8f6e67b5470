"""Is this the video that we had before? A value for every source, equal if they surely hold the same."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Hashable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import Tensor

from specvlm.errors import VideoError
from specvlm.video.clip import Video
from specvlm.video.files.addresses import resolved
from specvlm.video.pictures import to_numpy
from specvlm.video.stills import picture_files


def identity(source: Any) -> Hashable:
    """A key for whatever `load` and `load_image` take; None and numbers are their own.

    Files are the same as long as path, size and time of change are, folders as long as their files are. A URI is the
    file that it names, or the bytes that it holds. Bytes, arrays, tensors and Videos are compared by content (a digest
    is made, a second for each gigabyte or so), anything else is only equal to itself. What isn't there is refused
    later, by whoever opens it.
    """
    with suppress(VideoError):
        source = resolved(source)
    if isinstance(source, (str, os.PathLike)):
        path = Path(os.fsdecode(source))
        try:
            folder = path.is_dir()
            facts = [(str(file.resolve()), file.stat()) for file in (sorted(path.iterdir()) if folder else [path])]
            return folder, *((name, fact.st_size, fact.st_mtime_ns) for name, fact in facts)
        except (OSError, ValueError, RuntimeError):  # not there, no name at all, or a link to itself
            return str(path)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _digest(source)
    if isinstance(source, Tensor):
        source = to_numpy(source)
    if isinstance(source, np.ndarray) and not source.dtype.hasobject:
        return str(source.dtype), source.shape, _digest(np.ascontiguousarray(source))
    if isinstance(source, (list, tuple)):
        return tuple(identity(item) for item in source)
    if isinstance(source, Video):
        what = (source.frames, source.indices, source.total_frames)
        return identity((*what, source.timestamps, source.duration, source.source_fps))
    try:
        hash(source)
    except TypeError:
        return object()
    return cast(Hashable, source)


def content(source: Any) -> str | None:
    """A digest of all that `load` or `load_image` would read of a source: equal for the same video, wherever and
    whenever it is, in another process too. Files are read whole, a second for each gigabyte or so; None for what can't
    be read twice or isn't there, and for pictures of Pillow.
    """
    with suppress(VideoError, OSError, ValueError, RuntimeError):
        source = resolved(source)
        if isinstance(source, (str, os.PathLike)):
            path = Path(os.fsdecode(source))
            if path.is_dir():
                return _joined("folder", map(content, picture_files(path)))
            with path.open("rb") as file:
                return f"file {hashlib.file_digest(file, hashlib.blake2b).hexdigest()}"
        if isinstance(source, (bytes, bytearray, memoryview)):
            return f"file {_digest(source).hex()}"
        if isinstance(source, (list, tuple)):
            return _joined("list", map(content, source))
        if isinstance(source, (Tensor, Video)) or (isinstance(source, np.ndarray) and not source.dtype.hasobject):
            return f"{type(source).__name__} {_digest(repr(identity(source)).encode()).hex()}"
    return None


def _joined(kind: str, contents: Iterable[str | None]) -> str | None:
    """Of several in their order; None if one of them has none."""
    found = list(contents)
    whole = "\n".join(each for each in found if each is not None)
    return None if None in found else f"{kind} {_digest(whole.encode()).hex()}"


def _digest(content: Any) -> bytes:
    return hashlib.blake2b(content).digest()
