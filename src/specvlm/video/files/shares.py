"""Shares: the frames wanted of a file, cut where decoding may start anew, for decoders that work side by side.

FFmpeg's own threads wait for each other frame by frame; decoders with a stretch of the file each don't. How many there
are is a matter of cores and of memory: each holds the frames that its codec refers to.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from specvlm.video.files.packets import Packet, Reach, entries, joined, reaches

LEAST = 32
"""Packets that are worth a decoder of their own: opening a file once more costs about as much as some of these."""

TURNS = 4
"""Shares for each decoder: who is done early takes one more."""

HELD = 8
"""Frames that a decoder has in hand, as a rule: those it refers to, those it may not show yet, and the one at work."""

MOST_HELD = 2**28
"""Pixels of all frames that are in hand at once: 400 MB in 8 bits, sixteen decoders of full HD or four of 4K."""


@dataclass(frozen=True, slots=True)
class Crew:
    """So many decoders at once, each with so many threads (0: as many as FFmpeg likes)."""

    decoders: int
    threads: int


ALONE = Crew(1, 0)


def crew(num_shares: int, cores: int, frame_pixels: int) -> Crew:
    """Who works on so many shares of a film with frames of so many pixels."""
    room = MOST_HELD // (HELD * max(frame_pixels, 1))
    decoders = min(num_shares, cores, room)
    return Crew(decoders, cores // decoders) if decoders > 1 else ALONE


def cores() -> int:
    """Those that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Share:
    """The ticks of some of the frames wanted, and the runs of packets to decode for them."""

    ticks: tuple[int, ...]
    runs: tuple[range, ...]


def shares(packets: Sequence[Packet], wanted: Iterable[int], fed: Container[int], most: int) -> list[Share]:
    """The frames shown at the ticks `wanted`, in order, in up to `most` shares that cost about as much each.

    A share begins with a frame that is decoded from a fresh start, or from an entry that a reading from start to end
    would have leapt to as well. The cost is the number of packets `fed`.
    """
    found = reaches(packets, wanted, entries(packets))
    leaps = {run.start for run in joined(found)}
    groups: list[list[Reach]] = []
    for reach in found:
        is_apart = not groups or groups[-1][-1].start != reach.start
        if is_apart and (not groups or packets[reach.start].is_fresh or reach.start in leaps):
            groups.append([])
        groups[-1].append(reach)
    num_fed = list(accumulate((place in fed for place in range(len(packets))), initial=0))
    costs = [num_fed[group[-1].place + 1] - num_fed[group[0].start] for group in groups]
    number = max(min(most, sum(costs) // LEAST), 1)
    parts: list[list[Reach]] = [[] for _ in range(number)]
    spent = 0
    for group, cost in zip(groups, costs, strict=True):
        parts[min((spent + cost // 2) * number // max(sum(costs), 1), number - 1)].extend(group)
        spent += cost
    return [Share(tuple(reach.tick for reach in part), tuple(joined(part))) for part in parts if part]
