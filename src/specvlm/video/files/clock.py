"""When decoded frames are shown: by the times that came with them, as far as those can be true.

A clock may start again (two recordings in one file), jump (a counter of 33 bits that wraps, an encoder that was set
anew), be made up (a container without times of presentation, whose packets get their places in decode order), or be
missing (an elementary stream). The decoder always knows the order, and the order then decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, pairwise

from specvlm.video.files.packets import Scan, presentation

MAX_REORDER = 16
"""Frames by which a decoder may be out of order after a loss: as many as H.264 and HEVC keep for reference."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a decoder tells of a frame, in ticks: when it is shown, and for how long (0: unknown)."""

    pts: int | None
    duration: int


def presented(told: Sequence[Told], scan: Scan, usual: Fraction) -> tuple[list[int], list[int]]:
    """In which order decoded frames are shown, and at which increasing ticks; a frame usually lasts `usual` ticks.

    1. A file without a clock: as they came, at a constant rate; or each after the one before it has lasted, where they
       don't all last the same (film that was slowed down for television repeats fields).
    2. Times that never fell from packet to packet, though the frames come out in another order, are places in decode
       order: the frames are shown as they came, at these times in turn.
    3. A fall by more than `MAX_REORDER` frames, or a step longer than `scan.longest_step`, is another clock: the first
       frame that is timed by it follows when the one before it has lasted. Between such breaks `presentation` decides.
    """
    step = max(round(usual), 1)
    if not scan.is_clocked:
        lasting = [frame.duration if frame.duration > 0 else step for frame in told]
        if all(abs(duration - usual) < 1 for duration in lasting):
            return list(range(len(told))), [round(place * usual) for place in range(len(told))]
        return list(range(len(told))), list(accumulate(lasting[:-1], initial=0))
    ticks = [frame.pts for frame in told]
    if scan.in_decode_order and None not in ticks:
        ticks = sorted(tick for tick in ticks if tick is not None)
    order: list[int] = []
    times: list[int] = []
    for span in _unbroken(ticks, step, scan.longest_step):
        places, stretch = presentation(ticks[span.start : span.stop], step)
        lasting = told[order[-1]].duration if order else 0
        shift = times[-1] + (lasting if 0 < lasting <= scan.longest_step else step) - stretch[0] if times else 0
        order += [span.start + place for place in places]
        times += [second + shift for second in stretch]
    return order, times


def _unbroken(told: Sequence[int | None], step: int, longest: int) -> list[range]:
    """The stretches of frames that are timed by one clock."""
    timed = [(place, tick) for place, tick in enumerate(told) if tick is not None]
    breaks = [
        place
        for (_, before), (place, after) in pairwise(timed)
        if not before - MAX_REORDER * step <= after <= before + longest
    ]
    return [range(start, stop) for start, stop in pairwise([0, *breaks, len(told)])]
