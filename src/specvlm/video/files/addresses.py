"""Addresses of what is here: `file:` and `data:` URIs. All others are refused by name, and nothing is fetched."""

from __future__ import annotations

import binascii
import os
import re
from base64 import b64decode
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from specvlm.errors import OptionError, VideoError, brief

SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]+):", re.ASCII)
"""At least two letters: one is a drive of Windows."""


def resolved(source: Any) -> Any:
    """The path that a `file:` URI names, or the bytes that a `data:` URI holds; anything else as it is.

    A path that has a colon in it and exists is a path (`talk: part 1.mp4`). Any other scheme, such as `https://`,
    `s3://` or FFmpeg's `concat:`, is a `VideoError` that says no more of the address than that: it may hold a password.
    """
    if not isinstance(source, str) or not (match := SCHEME.match(source)):
        return source
    scheme, rest = match[1].lower(), source[match.end() :]
    if scheme == "file" and rest.startswith("/"):
        return _path(rest)
    if not rest.startswith("//") and _exists(source):
        return source
    if scheme == "data":
        return _bytes(rest)
    if scheme == "file":
        raise VideoError(f"{brief(repr(source))} is no file URI: expected file:///, and a path from the root on")
    shown = brief(scheme, 40)
    if rest.startswith("//"):
        raise VideoError(f"nothing is fetched from URLs, such as this one of {shown}://: download it first")
    raise VideoError(f"there is no file of that name, and nothing is opened by {shown}: addresses: give a path")


def at_home(path: Path | str) -> Path:
    """A path whose first part may be `~`, or `~` and a user's name. Errors: OptionError for a user that isn't here."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise OptionError(f"{brief(path)}: there is no such user here, or none with a home: name a folder") from None


def _path(rest: str) -> str:
    """What follows `file:`, with a host or without, as the path of a file here (RFC 8089)."""
    if rest.startswith("//"):
        host, _, path = rest[2:].partition("/")
        if host.lower() not in ("", "localhost"):
            raise VideoError(
                f"a file URI of the host {brief(repr(host), 80)} names no file of this machine: mount it first"
            )
        rest = "/" + path
    return os.fsdecode(unquote_to_bytes(rest))


def _bytes(rest: str) -> bytes:
    """What follows `data:` (RFC 2397). The type is not believed: content decides, as with files."""
    kind, comma, data = rest.partition(",")
    if not comma:
        raise VideoError("a data URI lacks the comma in front of its data: expected such as data:video/mp4;base64,AAAA")
    plain = unquote_to_bytes(data)
    if kind.rpartition(";")[2].strip().lower() != "base64":
        return plain
    plain = b"".join(plain.split()).rstrip(b"=")
    try:
        return b64decode(plain + b"=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise VideoError(f"the base64 of a data URI ({brief(kind, 80)}) can't be decoded: {brief(error)}") from error


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False
