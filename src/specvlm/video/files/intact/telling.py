"""What is told of a damaged file, in words, by what its packets say before any is decoded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import pairwise

from specvlm.video.files.packets import Packet


def of_frames(packets: Sequence[Packet], broken: Iterable[int], time_base: Fraction) -> str | None:
    """`broken`: the ordinals of packets that don't hold together."""
    hurt = [packets[ordinal] for ordinal in broken if ordinal < len(packets)]
    if not hurt:
        return None
    ticks = [packet.pts for packet in hurt if packet.pts is not None]
    first = f", the first at {float(min(ticks) * time_base):.2f} s" if ticks else ""
    return f"{len(hurt)} of its {len(packets)} frames are damaged inside{first}"


def of_times(packets: Sequence[Packet]) -> str | None:
    """Times that are one and the same were lost, or never written: the frames are shown one after the other."""
    ticks = [packet.pts for packet in packets if packet.pts is not None]
    num_same = sum(earlier == later for earlier, later in pairwise(ticks))
    if len(ticks) < 3 or 2 * num_same < len(ticks):
        return None
    return f"its times are lost, and made up: {num_same} of its {len(packets)} frames are at the time of the one before"
