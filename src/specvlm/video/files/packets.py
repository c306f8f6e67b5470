"""What a file's packets tell before any is decoded, and the least of them to decode for the frames wanted."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from statistics import median
from typing import NamedTuple

import numpy as np

from specvlm.video.files.reading import Seal
from specvlm.video.sampling import Timeline

SEEK_COST = 8
"""A seek empties the decoder's pipeline: it is worth it if it spares the decoding of more packets than this."""

USUAL_STEPS = 100
"""A step between two frames is not out of the ordinary up to this many steps of usual length."""

LONGEST_SPAN = 2**53
"""Times further apart than this (in ticks) are damage, and would no longer be exact in float64."""


class Packet(NamedTuple):
    """A coded frame. Times are in ticks of the stream's time base; `is_shown` unless nothing visible comes of it;
    `is_spare` if no other frame is decoded from it, `is_fresh` if none behind it refers to what is stored before it.
    `byte` is where it begins in the file, where that is known."""

    pts: int | None
    dts: int | None
    size: int
    duration: int = 0
    is_key: bool = False
    is_shown: bool = True
    is_spare: bool = False
    is_fresh: bool = False
    byte: int | None = None


@dataclass(frozen=True, slots=True)
class Scan:
    """All packets of a video stream, in decode order. `damage` says what is missing from the file, if anything.
    `is_picture` tells a photo or drawing from a video of one frame. `reorders` if the decoder may show frames in
    another order than they are stored in. Not `is_clocked` if the container has no times, so that those of the packets
    are made up. A step of more than `longest_step` ticks is no time that passed, but another clock. What lasts for no
    more than `too_short` ticks is shown for ten times as many. `comment` is the container's tag of that name. `seals`
    are checksums over stretches of the file, in order."""

    packets: Sequence[Packet]
    time_base: Fraction
    damage: str | None = None
    stream_index: int = 0
    is_picture: bool = False
    reorders: bool = False
    is_clocked: bool = True
    longest_step: int = LONGEST_SPAN
    too_short: int = 0
    comment: str | None = None
    frame_pixels: int = 0
    container: str = ""
    seals: Sequence[Seal] = ()

    @property
    def tells_frames(self) -> bool:
        """Whether each packet is known to be one frame with a time of its own, so that frames can be chosen unseen."""
        ticks = [packet.pts for packet in self.packets if packet.pts is not None]
        order = [packet.dts for packet in self.packets if packet.dts is not None]
        return (
            self.is_clocked
            and len(set(ticks)) == len(self.packets)
            and any(packet.is_key and packet.is_shown for packet in self.packets)
            and max(ticks) - min(ticks) < LONGEST_SPAN
            and all(earlier <= later for earlier, later in pairwise(order))
            and all(later - earlier <= self.longest_step for earlier, later in pairwise(sorted(ticks)))
            and not self._starts_again
            and not (self.reorders and self.in_decode_order)
        )

    @property
    def in_decode_order(self) -> bool:
        """Whether times never fall from packet to packet. Where the decoder then shows frames in another order, they
        are no times of presentation: AVI has none, ASF and MXF not for every codec, and libavformat counts packets."""
        ticks = [packet.pts for packet in self.packets if packet.pts is not None]
        return all(earlier <= later for earlier, later in pairwise(ticks))

    @property
    def _starts_again(self) -> bool:
        """Whether a keyframe is to be shown before what is stored before it."""
        latest: int | None = None
        for packet in self.packets:
            if packet.pts is not None:
                if latest is not None and packet.is_key and packet.pts < latest:
                    return True
                latest = packet.pts if latest is None else max(latest, packet.pts)
        return False

    @property
    def damage_in_brackets(self) -> str:
        """The damage, if any, to be put behind another message."""
        return f" ({self.damage})" if self.damage else ""

    def shown(self) -> list[Packet]:
        """The packets that become visible frames, in order of presentation (of those with a time)."""
        packets = [packet for packet in self.packets if packet.is_shown and packet.pts is not None]
        return sorted(packets, key=lambda packet: packet.pts or 0)

    def lasting(self, duration: int) -> int:
        """For how long a frame is shown that is said to last for so many ticks."""
        return 10 * self.too_short if duration <= self.too_short else duration

    def timeline(self) -> Timeline:
        """When the frames are shown, if the packets tell."""
        shown = self.shown()
        ticks = [packet.pts for packet in shown if packet.pts is not None]
        return timeline(ticks, shown[-1].duration if shown else 0, self.time_base)


def hide_unreachable(packets: Sequence[Packet]) -> list[Packet]:
    """The same packets, but what is shown before the first keyframe isn't: the recording starts in its middle.

    From the second keyframe on, nothing leads the first any more: what has an earlier time there has another clock.
    """
    keys = [ordinal for ordinal, packet in enumerate(packets) if packet.is_key]
    first = packets[keys[0]].pts if keys else None
    if first is None:
        return list(packets)
    end = keys[1] if len(keys) > 1 else len(packets)
    return [
        packet._replace(is_shown=False) if ordinal < end and packet.pts is not None and packet.pts < first else packet
        for ordinal, packet in enumerate(packets)
    ]


def longest_step(packets: Sequence[Packet], seconds: float, time_base: Fraction) -> int:
    """Up to how many ticks may lie between two frames: `seconds`, or more where all are that far apart (time-lapse)."""
    ticks = sorted({packet.pts for packet in packets if packet.pts is not None})
    usual = median(later - earlier for earlier, later in pairwise(ticks)) if len(ticks) > 1 else 0
    return round(max(seconds / time_base, USUAL_STEPS * usual))


def entries(packets: Sequence[Packet]) -> list[int]:
    """Where decoding may start: ordinals of keyframes that are shown after everything that precedes them in the file.

    Nothing that is shown at such a keyframe's time or later is stored before it, so whatever a later frame needs
    is found by decoding from there. (Frames stored after an open-GOP keyframe but shown before it are not: they
    belong to the entry before.)
    """
    found, latest = [], None
    for ordinal, packet in enumerate(packets):
        if packet.pts is None:
            continue
        if packet.is_key and packet.is_shown and latest is not None and packet.pts > latest:
            found.append(ordinal)
        latest = packet.pts if latest is None else max(latest, packet.pts)
    return found


def plan(packets: Sequence[Packet], wanted: Iterable[int], starts: Sequence[int]) -> list[range]:
    """Runs of packets whose decoding yields the frames shown at the ticks `wanted`: few packets, and few seeks.

    `starts` are the ordinals where decoding may start besides the first packet (`entries`, or none at all to
    go straight through). Each run begins there or at 0; runs are disjoint and in order.
    """
    return joined(reaches(packets, wanted, starts))


class Reach(NamedTuple):
    """What is decoded for one frame alone: from the ordinal `start`, where decoding may start, to its own, `place`."""

    tick: int
    start: int
    place: int


def reaches(packets: Sequence[Packet], wanted: Iterable[int], starts: Sequence[int]) -> list[Reach]:
    """For the frames shown at the ticks `wanted`, in order."""
    ordinals = {packet.pts: ordinal for ordinal, packet in enumerate(packets)}
    start_ticks = [packets[start].pts or 0 for start in starts]
    return [
        Reach(tick, starts[after - 1] if (after := bisect_right(start_ticks, tick)) else 0, ordinals[tick])
        for tick in sorted(wanted)
    ]


def joined(found: Iterable[Reach]) -> list[range]:
    """Runs for these frames, given in order: a seek where that spares decoding."""
    runs = [range(0)]
    for _, start, place in found:
        last = runs[-1]
        if start > last.stop + SEEK_COST:
            runs.append(range(start, place + 1))
        else:
            runs[-1] = range(last.start, max(last.stop, place + 1))
    return [run for run in runs if run]


def needed(packets: Sequence[Packet], wanted: Container[int]) -> frozenset[int]:
    """Ordinals of the packets to decode for the frames shown at the ticks `wanted`: all but spare ones.

    What comes right behind a wanted one is decoded too: it may be the other field of the same frame.
    """
    is_wanted = [packet.pts is not None and packet.pts in wanted for packet in packets]
    is_behind = [False, *is_wanted[:-1]]
    kept = zip(packets, is_wanted, is_behind, strict=True)
    return frozenset(
        ordinal for ordinal, (packet, *close) in enumerate(kept) if any(close) or packet.is_key or not packet.is_spare
    )


def presentation(told: Sequence[int | None], step: int) -> tuple[list[int], list[int]]:
    """In which order decoded frames are shown, and at which ticks, from the times that the decoder told for them.

    A decoder that lost frames may return the next ones out of order: if all have times of their own, those decide.
    Otherwise the frames are shown as they came, and what has no time, or an impossible one, follows after `step`.
    """
    known = [tick for tick in told if tick is not None]
    if known and len(set(known)) == len(told) and max(known) - min(known) < LONGEST_SPAN:
        order = sorted(range(len(known)), key=known.__getitem__)
        return order, [known[place] for place in order]
    ticks: list[int] = []
    for tick in told:
        if ticks and (tick is None or not ticks[-1] < tick < ticks[0] + LONGEST_SPAN):
            tick = ticks[-1] + step
        ticks.append(tick or 0)
    return list(range(len(told))), ticks


def timeline(ticks: Sequence[int], last_duration: int, time_base: Fraction) -> Timeline:
    """The timeline of frames shown at increasing `ticks`, the last of them for `last_duration` ticks (0: unknown)."""
    if not ticks:
        return Timeline(0)
    span = ticks[-1] - ticks[0]
    if last_duration <= 0 and len(ticks) > 1:
        last_duration = round(span / (len(ticks) - 1))
    # Numerator first: the product is a whole number, so that only the division rounds.
    elapsed = np.array([tick - ticks[0] for tick in ticks], np.float64)
    seconds = elapsed * time_base.numerator / time_base.denominator
    duration = float((span + last_duration) * time_base) if last_duration > 0 else None
    return Timeline(len(ticks), seconds, duration)
