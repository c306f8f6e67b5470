"""Frames by PyAV, which brings its own FFmpeg: the backend that reads everything, and the judge of what is damaged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain, islice

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream
from jaxtyping import Int64, UInt8

from specvlm.errors import VideoError
from specvlm.video.files.clock import Told, presented
from specvlm.video.files.container import VideoFile, demuxed
from specvlm.video.files.packets import Packet, Scan, entries, needed, plan, timeline
from specvlm.video.pixels import Gallery
from specvlm.video.sampling import Timeline


def read(
    source: VideoFile, scan: Scan, places: Int64[np.ndarray, " chosen"]
) -> UInt8[np.ndarray, "chosen H W 3"] | None:
    """The frames at `places` of the scan's timeline. None if the decoder doesn't bear the packets out."""
    shown = scan.shown()
    rows = {shown[place].pts: row for row, place in enumerate(places)}
    hopping, straight = (tuple(plan(scan.packets, rows, starts)) for starts in (entries(scan.packets), []))
    few, all_of_them = needed(scan.packets, rows), frozenset(range(len(scan.packets)))
    for runs, fed in dict.fromkeys([(hopping, few), (hopping, all_of_them), (straight, all_of_them)]):
        frames = _decode_runs(source, scan, runs, fed, rows)
        if frames is not None:
            return frames
    return None


@dataclass(frozen=True, slots=True)
class Survey:
    """Which frames a decode from start to end yields: in which `order` they are shown, and when."""

    order: list[int]
    timeline: Timeline
    num_lost: int
    thread_type: str


def survey(source: VideoFile, scan: Scan) -> Survey:
    """Let the decoder say which frames there are: those without errors. `VideoError` if there are none."""
    # In threads, an error may swallow sound frames that are still in the pipeline, not the same ones each time.
    found = None if scan.tells_frames else _survey(source, scan, "AUTO")
    if found is None or found.num_lost:
        found = _survey(source, scan, "NONE")
    if found is None:
        raise VideoError(
            f"none of the {len(scan.packets)} frames of {source.name} can be decoded{scan.damage_in_brackets}"
        )
    return found


def _survey(source: VideoFile, scan: Scan, thread_type: str) -> Survey | None:
    """None if no frame came out."""
    with source.opened(thread_type) as (container, stream):
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
    return Survey(order, line, num_lost, thread_type)


def read_surveyed(
    source: VideoFile, scan: Scan, found: Survey, places: Int64[np.ndarray, " chosen"]
) -> UInt8[np.ndarray, "chosen H W 3"]:
    """The frames at `places` of a survey's timeline, by decoding everything up to the last of them once more."""
    rows = {found.order[place]: row for row, place in enumerate(places)}
    gallery = Gallery(len(places), source.name)
    with source.opened(found.thread_type) as (container, stream):
        frames = _Decoder(stream).frames(islice(demuxed(container, stream), len(scan.packets)))
        for place, frame in enumerate(islice(frames, max(rows) + 1)):
            if place in rows:
                gallery.hang(rows[place], frame)
    pixels = gallery.frames()
    if pixels is None:
        raise VideoError(f"{source.name} changed while it was being read: leave it alone and read it again")
    return pixels


def _decode_runs(
    source: VideoFile, scan: Scan, runs: Iterable[range], fed: frozenset[int], rows: Mapping[int, int]
) -> UInt8[np.ndarray, "chosen H W 3"] | None:
    """The frames shown at the ticks in `rows`, in those rows, by decoding the packets of `runs` that are `fed`. None if
    one doesn't yield what it promises."""
    places = {(packet.pts, packet.size): place for place, packet in enumerate(scan.packets)}
    gallery = Gallery(len(rows), source.name)
    with ExitStack() as stack:
        container, stream = stack.enter_context(source.opened())
        for run in runs:
            packets = demuxed(container, stream)
            if run.start:
                packets = _seek(container, stream, scan.packets[run.start], places)
            if packets is None:  # the seek went astray: start over and read on up to the run
                container, stream = stack.enter_context(source.opened())
                packets = islice(demuxed(container, stream), run.start, None)
            entry = scan.packets[run.start].pts if run.start else None
            promised = {scan.packets[place].pts for place in run if place in fed and scan.packets[place].is_shown}
            if entry is not None:
                # What an open GOP shows before its keyframe belongs to the entry before, and is broken here.
                promised = {tick for tick in promised if tick is not None and tick >= entry}
            latest: int | None = None
            asked = (packet for place, packet in zip(run, packets, strict=False) if place in fed)
            for frame in _Decoder(stream).frames(asked):
                if latest is not None and frame.pts is not None and frame.pts <= latest:
                    return None  # the decoder knows the order: it is the times that are false
                latest = frame.pts
                if run.start and frame.pts == entry and frame.pict_type not in (PictureType.I, PictureType.NONE):
                    return None  # called a keyframe but none: x264's intra refresh, or a container's mistake
                promised.discard(frame.pts)
                if frame.pts is not None and frame.pts in rows:
                    gallery.hang(rows[frame.pts], frame)
            if promised:
                return None
    return gallery.frames()


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

    def frames(self, packets: Iterator[av.Packet]) -> Iterator[VideoFrame]:
        for packet in packets:
            yield from self._decode(packet)
        yield from self._decode(None)

    def _decode(self, packet: av.Packet | None) -> Iterator[VideoFrame]:
        try:
            frames = self.stream.codec_context.decode(packet)
        except FFmpegError:
            self.num_lost += 1
            return
        for frame in frames:
            if frame.is_corrupt:
                self.num_lost += 1
            else:
                yield frame
