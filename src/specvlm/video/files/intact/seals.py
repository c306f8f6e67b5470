"""Checksums of a container, compared with what it holds: of the stretches from which something is decoded, no others.

A checksum takes a hundredth of the time of decoding, and tells of damage that a decoder can't see.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
from jaxtyping import Int64

from specvlm.video.files.packets import Packet, Scan, entries, needed, plan
from specvlm.video.files.reading import BinaryFile


def broken_seals(file: BinaryFile, scan: Scan, places: Int64[np.ndarray, " chosen"] | None = None) -> str | None:
    """What is told of stretches that aren't as they were written, among those that are decoded for the frames at
    `places` of the scan's timeline (None: for all there are)."""
    if not scan.seals:
        return None
    starts = [seal.start for seal in scan.seals]
    held: dict[int, list[Packet]] = {}
    for packet in scan.packets if places is None else _decoded(scan, places):
        index = bisect_right(starts, packet.byte or 0) - 1
        if index >= 0 and (packet.byte or 0) < scan.seals[index].stop:
            held.setdefault(index, []).append(packet)
    broken = [held[index] for index in held if not scan.seals[index].is_whole(file)]
    ticks = [packet.pts for packets in broken for packet in packets if packet.pts is not None]
    if not broken:
        return None
    span = (
        f" from {float(min(ticks) * scan.time_base):.2f} to {float(max(ticks) * scan.time_base):.2f} s" if ticks else ""
    )
    return f"what it stores{span} isn't as it was written: its checksum is another one"


def _decoded(scan: Scan, places: Int64[np.ndarray, " chosen"]) -> list[Packet]:
    shown = scan.shown()
    ticks = {shown[place].pts or 0 for place in places}
    fed = needed(scan.packets, ticks)
    runs = plan(scan.packets, ticks, entries(scan.packets))
    return [scan.packets[ordinal] for run in runs for ordinal in run if ordinal in fed]
