"""Spare packets: frames that no other frame is decoded from, as the stream itself says of them.

Between two frames that are wanted a decoder can do without. Not in VP9 and AV1, where a frame also leaves behind what
the next one's symbols are read by.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

START = re.compile(rb"\x00\x00\x01")


class Kind(NamedTuple):
    """What a coded frame is to others: in `layer` (0: the lowest) of those that may be left away from the top; and
    whether frames of its own layer or below refer to it."""

    layer: int
    is_referred_to: bool


REFERRED_TO = Kind(0, True)
"""Also what isn't understood."""

ALONE = Kind(0, False)

Units = Callable[[bytes], Iterator[bytes]]
"""Cuts a packet into its units: from the first byte of each, its header."""


def h264(data: bytes, units: Units) -> Kind:
    """By `nal_ref_idc`, which is the same in all slices of a picture (ITU-T H.264, 7.4.1)."""
    slices = [unit[0] for unit in units(data) if (unit and 1 <= unit[0] & 31 <= 5) or (unit and unit[0] & 31 == 20)]
    alone = all(header & 31 == 1 and not header >> 5 & 3 for header in slices)
    return ALONE if slices and alone else REFERRED_TO


def hevc(data: bytes, units: Units) -> Kind:
    """By the type of its slices: the even ones up to 14 are of pictures that none of the same temporal sub-layer refers
    to, nor any of a lower one (ITU-T H.265, 7.4.2.2)."""
    slices = [unit for unit in units(data) if len(unit) > 1 and unit[0] >> 1 & 63 < 32]
    if not slices:
        return REFERRED_TO
    alone = all(unit[0] >> 1 & 63 in range(0, 16, 2) and not (unit[0] & 1 or unit[1] >> 3) for unit in slices)
    return Kind(max((unit[1] & 7) - 1 for unit in slices), not alone)


def mpeg2(data: bytes, units: Units) -> Kind:
    """By `picture_coding_type`: to B pictures none refers (ISO/IEC 13818-2, 6.3.9; so too in MPEG-1)."""
    pictures = [unit[2:3] for unit in units(data) if unit[:1] == b"\0"]
    return ALONE if pictures and all(each and each[0] >> 3 & 7 == 3 for each in pictures) else REFERRED_TO


def mpeg4(data: bytes, units: Units) -> Kind:
    """By `vop_coding_type` (ISO/IEC 14496-2, 6.3.5). What is packed into one with another is left alone."""
    pictures = [unit[1:2] for unit in units(data) if unit[:1] == b"\xb6"]
    return ALONE if len(pictures) == 1 and pictures[0] and pictures[0][0] >> 6 == 2 else REFERRED_TO


CODECS: dict[str, Callable[[bytes, Units], Kind]] = {
    "h264": h264,
    "hevc": hevc,
    "mpeg1video": mpeg2,
    "mpeg2video": mpeg2,
    "mpeg4": mpeg4,
}
"""By FFmpeg's names."""


def behind_start_codes(data: bytes) -> Iterator[bytes]:
    for match in START.finditer(data):
        yield data[match.end() : match.end() + 3]


def behind_lengths(size: int) -> Units:
    """Of units that each come behind a length of `size` bytes."""

    def units(data: bytes) -> Iterator[bytes]:
        place = 0
        while place + size <= len(data):
            end = place + size + int.from_bytes(data[place : place + size], "big")
            if end > len(data):
                yield b"\5"  # not as long as it says: the frame is damaged, which is the decoder's to notice
            yield data[place + size : place + size + 3]
            place = end

    return units


def length_size(codec: str, extradata: bytes) -> int:
    """Bytes of the length in front of each unit, by what the container says in front of a stream; 0 for start codes."""
    if codec == "h264" and len(extradata) > 4 and extradata[0] == 1:
        return 1 + (extradata[4] & 3)
    if codec == "hevc" and len(extradata) > 21 and extradata[:3] not in (b"\0\0\1", b"\0\0\0"):
        return 1 + (extradata[21] & 3)
    return 0


def units_of(codec: str, extradata: bytes) -> Units:
    """How packets of a stream are cut, by what its container says in front of it."""
    size = length_size(codec, extradata)
    return behind_lengths(size) if size else behind_start_codes


def reader(codec: str, extradata: bytes) -> Callable[[bytes], Kind]:
    """What tells a packet's kind, for a stream of FFmpeg's `codec` with that much said in front of it."""
    kind_of, units = CODECS.get(codec), units_of(codec, extradata)
    return (lambda data: REFERRED_TO) if kind_of is None else (lambda data: kind_of(data, units))


def spare(kinds: Sequence[Kind]) -> list[bool]:
    """Of all packets of a stream, those that may be left away: of the top layer, where none above refers to them."""
    top = max((kind.layer for kind in kinds), default=0)
    return [kind == Kind(top, False) for kind in kinds]
