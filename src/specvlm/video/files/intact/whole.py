"""Whole packets: whether a coded frame holds together, as far as its outer form tells; nothing is decoded.

What is inside a slice, arithmetically coded, is as likely damaged as not: a decoder may notice, and often can't.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from specvlm.video.files.intact import gif
from specvlm.video.files.spare import behind_start_codes, length_size

ONLY_BETWEEN = re.compile(rb"\x00\x00[\x00-\x02]")
"""What can't be within a unit (ITU-T H.264, 7.4.1; H.265, 7.4.2): encoders put a 3 before the third of these bytes."""

NOWHERE = re.compile(rb"(?<!\x00)\x00\x00(\x02|\x00+[^\x00\x01])")
"""What can't be between units, either: zeros lead a start code, or the end. Each run of them is looked at once."""

SPECIFIED: dict[str, Callable[[int], bool]] = {
    "h264": lambda header: header & 31 < 24,
    "hevc": lambda header: header >> 1 & 63 < 48,
}
"""Whether a unit with that first byte is one that the standard describes. The first bit of each is 0."""

Check = Callable[[bytes], bool]
"""Whether a packet holds together."""


def in_lengths(size: int, is_specified: Callable[[int], bool]) -> Check:
    """Of units that each come behind a length of `size` bytes: none is longer than the packet, or holds what it
    can't."""

    def is_whole(data: bytes) -> bool:
        place = 0
        while place + size < len(data):
            start = place + size
            place = start + int.from_bytes(data[place:start], "big")
            if place > len(data) or (place > start and data[start] > 127):
                return False
            has_zeros = data.find(b"\0\0", start, place) >= 0
            if has_zeros and is_specified(data[start]) and ONLY_BETWEEN.search(data[start:place].rstrip(b"\0")):
                return False
        return True

    return is_whole


def in_start_codes(data: bytes) -> bool:
    """Of units that each come behind a start code: there is nothing that can't be."""
    return NOWHERE.search(data) is None and all(unit[:1] < b"\x80" for unit in behind_start_codes(data))


def reader(codec: str, extradata: bytes) -> Check:
    """What tells whether a packet is whole, for a stream of FFmpeg's `codec` with that much said in front of it."""
    if codec == "gif":
        return gif.Checker()
    if codec in SPECIFIED:
        size = length_size(codec, extradata)
        return in_lengths(size, SPECIFIED[codec]) if size else in_start_codes
    return bool
