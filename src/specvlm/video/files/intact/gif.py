"""Pictures of a GIF, checked without drawing them: whether their blocks end, and hold as many pixels as they should.

FFmpeg leaves what is missing of a picture as the one before had it, and says nothing. A bit that flips in compressed
pixels often changes their number: a code then stands for another run of pixels, or for a longer one.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64

EXTENSION, PICTURE, TRAILER = b"\x21", b"\x2c", b"\x3b"

CODES = 4200
"""Codes that are looked at together: as many as fill a table, from which on most encoders begin a new one."""

WIDEST = 12
"""Bits of a code, at the most: a table has 4096 entries."""

MOST_COUNTED = 1 << 22
"""Bytes of a file whose pixels are counted: it takes about as long as decoding them, 30 ms for a million."""


class Checker:
    """Whether each of the packets of a file is a picture: all are to be there, the first `MOST_COUNTED` bytes of them
    with as many pixels as they should have."""

    def __init__(self) -> None:
        self._left = MOST_COUNTED

    def __call__(self, data: bytes) -> bool:
        found = picture(data)
        self._left -= len(data)
        return found is not None and (self._left < 0 or num_pixels(found.least, found.codes) == found.num_pixels)


class Picture(NamedTuple):
    """`num_pixels` that `codes` should stand for, of which the smallest have `least` bits and one; in a packet, they
    end at the byte `end`."""

    num_pixels: int
    least: int
    codes: bytes
    end: int


def picture(data: bytes) -> Picture | None:
    """The picture in a packet. None if it isn't there to its end. The first packet has the file's header in front."""
    place = 13 + _table(data[10:11]) if data[:3] == b"GIF" else 0
    place = _behind_extensions(data, place)
    head = data[place : place + 11]
    if head[:1] != PICTURE or len(head) < 11:
        return None
    width, height = (int.from_bytes(head[at : at + 2], "little") for at in (5, 7))
    place += 10 + _table(head[9:10])
    found = _blocks(data, place + 1)
    return found and Picture(width * height, data[place], found[1], found[0])


def is_last(data: bytes) -> bool:
    """Whether what ends a file stands behind the picture in a packet."""
    found = picture(data)
    return found is not None and data[_behind_extensions(data, found.end) :][:1] == TRAILER


def _behind_extensions(data: bytes, place: int) -> int:
    """The end of all that is said between pictures."""
    while data[place : place + 1] == EXTENSION and (found := _blocks(data, place + 2)):
        place = found[0]
    return place


def _table(flags: bytes) -> int:
    """Bytes of the table of colours that a byte of flags announces."""
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 128 else 0


def _blocks(data: bytes, place: int) -> tuple[int, bytes] | None:
    """Where a chain of blocks ends, and what is in it; None if it doesn't."""
    parts = []
    while place < len(data):
        size = data[place]
        if size == 0:
            return place + 1, b"".join(parts)
        parts.append(data[place + 1 : place + 1 + size])
        place += 1 + size
    return None


def num_pixels(least: int, codes: bytes) -> int | None:
    """How many pixels the codes of a picture stand for, the smallest of which have `least` bits and one. None if one of
    them stands for nothing, or none ends the picture."""
    if not 1 <= least < WIDEST:
        return None
    clear, total, start, num_bits = 1 << least, 0, 0, 8 * len(codes)
    octets = np.frombuffer(codes + bytes(3), np.uint8).astype(np.int64)
    windows = octets[:-2] | octets[1:-1] << 8 | octets[2:] << 16
    while start < num_bits:
        found, places = _codes(windows, start, num_bits, _steps(least, CODES))
        if len(found) == CODES and not _stops(found, clear).any():  # a table that stays full for long
            found, places = _codes(windows, start, num_bits, _steps(least, CODES + (num_bits - start) // WIDEST))
        stops = np.flatnonzero(_stops(found, clear))
        length = _length(found[: stops[0]] - clear - 2) if len(stops) else None
        if length is None:
            return None
        total, stop = total + length, int(stops[0])
        if found[stop] == clear + 1:
            return total
        start = int(places[stop + 1])
    return None


def _codes(
    windows: Int64[np.ndarray, " bytes"], start: int, num_bits: int, steps: Int64[np.ndarray, " steps"]
) -> tuple[Int64[np.ndarray, " codes"], Int64[np.ndarray, " ends"]]:
    """The codes from the bit `start` on, and where each begins, and the one behind them."""
    places = start + steps[: np.searchsorted(steps, num_bits - start, "right")]
    return windows[places[:-1] >> 3] >> (places[:-1] & 7) & (1 << np.diff(places)) - 1, places


def _stops(found: Int64[np.ndarray, " codes"], clear: int) -> Bool[np.ndarray, " codes"]:
    return (found == clear) | (found == clear + 1)


@lru_cache(maxsize=16)
def _steps(least: int, count: int) -> Int64[np.ndarray, " steps"]:
    """Where codes begin, in bits from the one behind a cleared table: they widen as the table fills."""
    entries = (1 << least) + 2 + np.maximum(np.arange(count) - 1, 0)
    widths = np.minimum(np.frexp(entries)[1], WIDEST)
    return np.concatenate([[0], np.cumsum(widths, dtype=np.int64)])


def _length(parents: Int64[np.ndarray, " codes"]) -> int | None:
    """The pixels of codes together: each stands for one, or for one more than the code at the place `parents`. None if
    one stands at none before it."""
    places = np.arange(len(parents))
    if (parents >= places).any():
        return None
    depths = (parents >= 0).astype(np.int64)
    parents = np.where(parents >= 0, parents, places)  # the first of a chain is its own, and adds nothing more
    while ((further := parents[parents]) != parents).any():
        depths, parents = depths + depths[parents], further
    return int(depths.sum()) + len(depths)
