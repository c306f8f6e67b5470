"""Frames by PyAV, which brings its own FFmpeg: the backend that reads everything, and the judge of what is damaged."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain, islice, takewhile
from threading import Event

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from jaxtyping import Int64, UInt8

from specvlm.errors import VideoError
from specvlm.video.files.clock import Told, presented
from specvlm.video.files.container import VideoFile, demuxed
from specvlm.video.files.packets import Packet, Scan, entries, needed, plan, timeline
from specvlm.video.files.shares import ALONE, TURNS, Crew, Share, cores, crew, shares
from specvlm.video.pixels import Gallery, Wall
from specvlm.video.sampling import Timeline

LONGEST_WAIT = 0.1
"""Seconds, at the end of a file."""


def read(
    source: VideoFile, scan: Scan, places: Int64[np.ndarray, " chosen"]
) -> UInt8[np.ndarray, "chosen H W 3"] | None:
    """The frames at `places` of the scan's timeline. None if the decoder doesn't bear the packets out."""
    rows = _rows(scan, places)
    hopping, straight = (tuple(plan(scan.packets, rows, starts)) for starts in (entries(scan.packets), []))
    few, all_of_them = needed(scan.packets, rows), frozenset(range(len(scan.packets)))
    ways = dict.fromkeys([(hopping, few), (hopping, all_of_them), (straight, all_of_them)])
    parts, team = _teamwork(source, scan, rows, few)
    if team != ALONE:
        gallery = Gallery(len(rows), source.name, is_one_size=True)
        if _decode_side_by_side(_Reading(source, scan, few, rows, gallery), parts, team):
            return gallery.frames()
        del ways[hopping, few]
    for runs, fed in ways:
        gallery = Gallery(len(rows), source.name)
        if _decode_alone(_Reading(source, scan, fed, rows, gallery), runs):
            return gallery.frames()
    return None


def read_straight(
    source: VideoFile, scan: Scan, places: Int64[np.ndarray, " chosen"]
) -> UInt8[np.ndarray, "chosen H W 3"] | None:
    """`read`, by decoding every packet of the file, from the first to the last, by one thread: None if any of them
    yields less than it promises, wanted or not."""
    rows, everything = _rows(scan, places), range(len(scan.packets))
    gallery = Gallery(len(rows), source.name)
    reading = _Reading(source, scan, frozenset(everything), rows, gallery)
    return gallery.frames() if _decode_alone(reading, [everything], num_threads=1) else None


def show(source: VideoFile, scan: Scan, places: Int64[np.ndarray, " chosen"], wall: Wall, ahead: int) -> bool:
    """Hang the frames at `places` as they are decoded, about in order: those of a wall that takes none further than
    `ahead` of one that is missing. False if the decoder doesn't bear the packets out: then what hangs there may be
    wrong, and `read` knows better."""
    rows = _rows(scan, places)
    few = needed(scan.packets, rows)
    reading = _Reading(source, scan, few, rows, wall)
    parts, team = _teamwork(source, scan, rows, few, math.ceil(len(rows) / ahead))
    if team == ALONE:
        runs = tuple(plan(scan.packets, rows, entries(scan.packets)))
        return _decode_alone(reading, runs) and wall.is_full
    return _decode_side_by_side(reading, parts, team) and wall.is_full


def _rows(scan: Scan, places: Int64[np.ndarray, " chosen"]) -> dict[int, int]:
    """For the tick at which each of the frames is shown, its row among them."""
    shown = scan.shown()
    return {shown[place].pts or 0: row for row, place in enumerate(places)}  # all that are shown have a time


def _teamwork(
    source: VideoFile, scan: Scan, rows: Mapping[int, int], fed: frozenset[int], turns: int = TURNS
) -> tuple[list[Share], Crew]:
    """Shares of the work, so many `turns` of them for each decoder, and who takes them."""
    num_cores = cores() if source.is_shared_cheaply else 1
    parts = shares(scan.packets, rows, fed, max(TURNS, turns) * num_cores)
    return parts, crew(len(parts), num_cores, scan.frame_pixels)


def _decode_side_by_side(reading: _Reading, parts: Sequence[Share], team: Crew) -> bool:
    """`_decode_shares`, by several decoders. False also where the size changes midway: then one alone sees which came
    first."""
    left, starts_fresh = deque(parts), _start_fresh(reading.scan, parts)
    with ThreadPoolExecutor(team.decoders, "specvlm-video") as pool:
        try:
            done = [pool.submit(_work, reading, left, team.threads, starts_fresh) for _ in range(team.decoders)]
            return all(each.result() for each in done)
        except BaseException:
            reading.give_up()
            raise
        finally:
            done = []  # an error would keep what it came through: decoders and their buffers


def _work(reading: _Reading, left: deque[Share], num_threads: int, starts_fresh: bool) -> bool:
    is_done = False
    try:
        is_done = _decode_shares(reading, _taken(left), num_threads, starts_fresh)
        return is_done
    finally:
        if not is_done:
            reading.give_up()


def _taken(left: deque[Share]) -> Iterator[Share]:
    with suppress(IndexError):
        while True:
            yield left.popleft()


@dataclass(frozen=True, slots=True)
class Survey:
    """Which frames a decode from start to end yields: in which `order` they are shown, and when."""

    order: list[int]
    timeline: Timeline
    num_lost: int
    num_threads: int


def survey(source: VideoFile, scan: Scan) -> Survey:
    """Let the decoder say which frames there are: those without errors. `VideoError` if there are none."""
    # In threads, an error may swallow sound frames that are still in the pipeline, not the same ones each time.
    found = None if scan.tells_frames else _survey(source, scan, num_threads=0)
    if found is None or found.num_lost:
        found = _survey(source, scan, num_threads=1)
    if found is None:
        raise VideoError(
            f"none of the {len(scan.packets)} frames of {source.name} can be decoded{scan.damage_in_brackets}"
        )
    return found


def _survey(source: VideoFile, scan: Scan, num_threads: int) -> Survey | None:
    """None if no frame came out."""
    with source.opened(num_threads) as (container, stream):
        rate = stream.guessed_rate or stream.average_rate
        usual = 1 / (rate * scan.time_base) if rate else Fraction(1)
        decoder = _Decoder(stream)
        frames = decoder.frames(islice(demuxed(container, stream), len(scan.packets)))
        told = [Told(frame.pts, scan.lasting(frame.duration or 0)) for frame in frames]
    if not told:
        return None
    order, ticks = presented(told, scan, usual)
    line = timeline(ticks, told[order[-1]].duration or max(round(usual), 1), scan.time_base)
    num_lost = max(decoder.num_lost, len(scan.shown()) - len(ticks) if scan.tells_frames else 0)
    return Survey(order, line, num_lost, num_threads)


def read_surveyed(
    source: VideoFile, scan: Scan, found: Survey, places: Int64[np.ndarray, " chosen"]
) -> UInt8[np.ndarray, "chosen H W 3"]:
    """The frames at `places` of a survey's timeline, by decoding everything up to the last of them once more."""
    rows = {found.order[place]: row for row, place in enumerate(places)}
    gallery, reformatter = Gallery(len(places), source.name), VideoReformatter()
    with source.opened(found.num_threads) as (container, stream):
        frames = _Decoder(stream).frames(islice(demuxed(container, stream), len(scan.packets)))
        for place, frame in enumerate(islice(frames, max(rows) + 1)):
            if place in rows:
                gallery.hang(rows[place], frame, reformatter)
    pixels = gallery.frames()
    if pixels is None:
        raise VideoError(f"{source.name} changed while it was being read: leave it alone and read it again")
    return pixels


@dataclass(frozen=True, slots=True)
class _Reading:
    """What is read: the frames shown at the ticks in `rows`, to hang in those rows of the wall, from packets that are
    `fed`."""

    source: VideoFile
    scan: Scan
    fed: frozenset[int]
    rows: Mapping[int, int]
    wall: Wall
    is_given_up: Event = field(default_factory=Event)
    places: Mapping[tuple[int | None, int], int] = field(init=False)

    def __post_init__(self) -> None:
        places = {(packet.pts, packet.size): place for place, packet in enumerate(self.scan.packets)}
        object.__setattr__(self, "places", places)

    def give_up(self) -> None:
        """Let nobody go on, or wait."""
        self.is_given_up.set()
        self.wall.give_up()


def _decode_alone(reading: _Reading, runs: Sequence[range], num_threads: int = 0) -> bool:
    """`_decode_shares`, of a single share with all that is wanted."""
    share = Share(tuple(reading.rows), tuple(runs))
    return _decode_shares(reading, [share], num_threads, _start_fresh(reading.scan, [share]))


def _start_fresh(scan: Scan, parts: Iterable[Share]) -> bool:
    """`starts_fresh` of `VideoFile.opened`."""
    starts = (run.start for part in parts for run in part.runs)
    return all(not start or scan.packets[start].is_fresh for start in starts)


def _decode_shares(reading: _Reading, parts: Iterable[Share], num_threads: int, starts_fresh: bool) -> bool:
    """Whether all shares yielded what their packets promise; by one decoder, as of `VideoFile.opened`."""
    reformatter = VideoReformatter()
    with ExitStack() as stack:
        container, stream = stack.enter_context(reading.source.opened(num_threads, starts_fresh))
        for part in parts:
            ticks = frozenset(part.ticks)
            for run in part.runs:
                packets = demuxed(container, stream)
                if run.start:
                    packets = _seek(container, stream, reading.scan.packets[run.start], reading.places)
                if packets is None:  # the seek went astray: start over and read on up to the run
                    container, stream = stack.enter_context(reading.source.opened(num_threads, starts_fresh))
                    packets = islice(demuxed(container, stream), run.start, None)
                if not _decode_run(reading, stream, packets, run, ticks, reformatter):
                    return False
    return True


def _decode_run(
    reading: _Reading,
    stream: VideoStream,
    packets: Iterator[av.Packet],
    run: range,
    ticks: frozenset[int],
    reformatter: VideoReformatter,
) -> bool:
    known, fed = reading.scan.packets, reading.fed
    entry = known[run.start].pts if run.start else None
    promised = (known[place].pts for place in run if place in fed and known[place].is_shown)
    # What an open GOP shows before its keyframe belongs to the entry before, and is broken here.
    owed = deque(sorted(tick for tick in promised if tick is not None and (entry is None or tick >= entry)))
    latest: int | None = None
    asked = (packet for place, packet in zip(run, packets, strict=False) if place in fed)
    goes_on = takewhile(lambda _: not reading.is_given_up.is_set(), asked)
    for frame in _Decoder(stream).frames(goes_on, run.stop == len(known)):
        if latest is not None and frame.pts is not None and frame.pts <= latest:
            return False  # the decoder knows the order: it is the times that are false
        latest = frame.pts
        if run.start and frame.pts == entry and frame.pict_type not in (PictureType.I, PictureType.NONE):
            return False  # called a keyframe but none: x264's intra refresh, or a container's mistake
        if owed and frame.pts is not None and frame.pts >= owed[0] and frame.pts != owed.popleft():
            return False  # one is left out: it won't come any more, and whoever waits for it would wait for good
        if frame.pts in ticks and not reading.wall.hang(reading.rows[frame.pts], frame, reformatter):
            return False
    return not owed


def _seek(
    container: InputContainer, stream: VideoStream, target: Packet, places: Mapping[tuple[int | None, int], int]
) -> Iterator[av.Packet] | None:
    """The packets from `target` on, or None where the container can't be made to go there.

    Demuxers take the time to seek to for a presentation time (Matroska) or a decode time (MPEG-TS), and some
    miss it: the packet that comes first shows where the seek went. Landing early costs reading, not decoding.
    """
    goal = places[target.pts, target.size]
    for tick in (target.pts, target.dts):
        if tick is None:
            continue
        try:
            container.seek(tick, stream=stream)
            packets = demuxed(container, stream)
            first = next(packets)
        except (FFmpegError, StopIteration):
            continue
        place = places.get((first.pts, first.size), goal + 1)
        if place <= goal:
            return islice(chain([first], packets), goal - place, None)
    return None


@dataclass(slots=True)
class _Decoder:
    """Turns packets into frames. What can't be decoded, or only by guessing, is left out and counted."""

    stream: VideoStream
    num_lost: int = field(default=0, init=False)
    _slowest: float = field(default=0.0, init=False)

    def frames(self, packets: Iterator[av.Packet], is_end: bool = True) -> Iterator[VideoFrame]:
        """What comes of these packets, with which the file `is_end`s or doesn't."""
        for packet in packets:
            yield from self._decode(packet)
        if is_end:
            self._let_finish()
        yield from self._decode(None)

    def _let_finish(self) -> None:
        """Wait for FFmpeg's threads: one that is told of the end hands out what another still decodes, as sound so far.
        The last frames of a file are those that are damaged most often."""
        num_threads = self.stream.codec_context.thread_count
        if num_threads > 1:
            time.sleep(min(num_threads * self._slowest, LONGEST_WAIT))

    def _decode(self, packet: av.Packet | None) -> Iterator[VideoFrame]:
        start = time.perf_counter()
        try:
            frames = self.stream.codec_context.decode(packet)
        except FFmpegError:
            self.num_lost += 1
            return
        finally:
            self._slowest = max(self._slowest, time.perf_counter() - start)
        for frame in frames:
            if frame.is_corrupt:
                self.num_lost += 1
            else:
                yield frame
