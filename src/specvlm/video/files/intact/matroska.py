"""What a Matroska file says of its own bytes: how many there are of each part, and checksums (RFC 9559; 8794, 11.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from specvlm.video.files.reading import BinaryFile, Seal

EBML, SEGMENT, CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
INFO, TRACKS = 0x1549A966, 0x1654AE6B
OTHERS = (0x114D9B74, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367, 0xEC, 0xBF)
"""Seek heads, cues, attachments, chapters, tags; room that is left free, and the checksum of a whole segment."""

CHECKSUM = b"\xbf\x84"
"""Stands in front of a checksum of four bytes, which is the first thing in a part that has one."""

HEAD = 12 + 6
"""Bytes of a part's name and size, and of its checksum."""


@dataclass(frozen=True, slots=True)
class Outline:
    """The seals of a file's clusters, in order, and what is missing or changed outside of them, if that is known."""

    seals: Sequence[Seal] = ()
    damage: str | None = None


def outline(file: BinaryFile) -> Outline:
    """Read the heads of all parts, and leap over what is in them, as far as sizes are told."""
    size, place, seals = file.seek(0, 2), 0, list[Seal]()
    damage = None
    while place < size:
        file.seek(place)
        head = file.read(HEAD)
        name, first = _number(head, 0, keeps_mark=True)
        length, start = _number(head, first)
        end = None if length is None else place + start + length
        if name not in (EBML, SEGMENT, CLUSTER, INFO, TRACKS, *OTHERS):
            break
        if end is not None and end > size:
            return Outline(seals, f"it ends at byte {size} of {end}: it was cut short, or is still being written")
        if name == SEGMENT:
            place += start
            continue
        if end is None:  # the part of a live stream lasts until the next one begins
            break
        if head[start : start + 2] == CHECKSUM and len(head) >= start + 6:
            seal = Seal(place + start + 6, end, int.from_bytes(head[start + 2 : start + 6], "little"))
            if name == CLUSTER:
                seals.append(seal)
            elif name in (INFO, TRACKS) and not seal.is_whole(file):
                damage = "its header isn't as it was written: its checksum is another one"
        place = end
    return Outline(seals, damage)


def _number(data: bytes, place: int, keeps_mark: bool = False) -> tuple[int | None, int]:
    """A number of 1 to 8 bytes, whose first bit that is 1 tells how many, and where it ends. None if it says that it
    isn't known, or can't be read."""
    first = data[place] if place < len(data) else 0
    length = 9 - first.bit_length()
    found = data[place : place + length]
    if not first or len(found) < length:
        return None, len(data)
    number = int.from_bytes(found, "big")
    mark = 1 << 7 * length
    if keeps_mark:
        return number, place + length
    return None if number == 2 * mark - 1 else number - mark, place + length
