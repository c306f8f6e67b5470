"""The text of a file that somebody's editor or spreadsheet wrote: read where its encoding is certain, else refused."""

from __future__ import annotations

import codecs
from pathlib import Path

from specvlm.errors import OptionError

MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",  # before UTF-16's, which it begins with
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
"""The byte order marks that a file may begin with."""


MOST_BYTES = 2**27
"""Of a file that is read whole: as text and as objects of Python it takes ten times as much and more."""


def encoding_of(content: bytes) -> tuple[str, int]:
    """The encoding of a text and the bytes of the mark in front of it: by that mark or, of UTF-16 without one, by the
    zeros that its ASCII letters have. All else is taken for UTF-8, which finds out by itself what isn't."""
    for mark, encoding in MARKS.items():
        if content.startswith(mark):
            return encoding, len(mark)
    head = content[:2048]
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) * 4 > len(head) and min(even, odd) * 8 < max(even, odd):
        return ("utf-16-le" if odd > even else "utf-16-be"), 0
    return "utf-8", 0


def text_of(file: Path) -> str:
    """The text in a file. Errors: OptionError that says what was found and what would be right."""
    if (size := file.stat().st_size) > MOST_BYTES:
        raise OptionError(
            f"data: {file} has {size >> 20} MiB, and more than {MOST_BYTES >> 20} are not read at once: give jsonl "
            "in UTF-8, which is read line by line, or parquet"
        )
    content = file.read_bytes()
    if content.startswith(b"PK\x03\x04"):
        raise OptionError(f"data: {file} is a workbook or another archive: save it as {wanted(file)}")
    if content.startswith(b"\xd0\xcf\x11\xe0"):
        raise OptionError(f"data: {file} is a workbook: save it as {wanted(file)}")
    encoding, start = encoding_of(content)
    try:
        return content[start:].decode(encoding)
    except UnicodeDecodeError as error:
        place = start + error.start
        line = content.count(b"\n", 0, place) + 1
        raise OptionError(
            f"data: {file} is no {encoding.upper()}: no letter has a byte 0x{content[place]:02x} as in line {line}. "
            f"Files of older programs are often cp1252: save it as {wanted(file)}"
        ) from None


def wanted(file: Path) -> str:
    """What a program is to be asked for."""
    return "CSV UTF-8" if file.suffix == ".csv" else f"{file.suffix.lstrip('.')} in UTF-8"
