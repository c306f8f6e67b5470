"""Decode the frames that are wanted from a video file, and no more than is needed for them.

1. **Scan**: read all packets without decoding any. Headers lie about frame counts and rates; packets know when
   each frame is shown and where decoding can start.
2. **Choose** frames by their exact times.
3. **Decode** from the nearest keyframe on, seeking over what isn't needed. All that comes out is compared with what
   the packets promised, so the frames are those of a decode from start to end.
4. Where packets don't tell (no timestamps, damage, keyframes that are none), decode **everything** to learn which
   frames exist, and then once more to pick them. Slower, always right, and no more memory than the frames chosen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain, islice

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream
from jaxtyping import UInt8

from specvlm.errors import VideoError
from specvlm.video.clip import Video
from specvlm.video.container import BinaryFile, VideoFile, blaming, demuxed
from specvlm.video.packets import Packet, Scan, entries, plan, presentation, timeline
from specvlm.video.pixels import Gallery
from specvlm.video.sampling import Sampling


def decode(file: BinaryFile, name: str, sampling: Sampling) -> Video:
    """Read the frames that `sampling` asks for. `file` must be seekable; the video starts at its first byte.

    Frames are upright (the file's rotation and mirroring are applied, to quarter turns) and RGB, in stored pixels: a
    pixel aspect ratio other than 1 is not applied, and frames of a stream that changes its size midway are scaled
    to the first one chosen. High dynamic range is not tone-mapped. Raises `VideoError`, whose messages say `name`.
    """
    source = VideoFile(file, name)
    with blaming(name):
        scan = source.scan()
        if not scan.packets:
            raise VideoError(f"{name} holds no frames: its video stream is empty{_because(scan)}")
        video = _decode_chosen(source, scan, sampling) if scan.tells_frames else None
        return _decode_everything(source, scan, sampling) if video is None else video


def _decode_chosen(source: VideoFile, scan: Scan, sampling: Sampling) -> Video | None:
    """Choose by what the packets tell, and decode what is needed. None if the decoder doesn't bear them out."""
    line = scan.timeline()
    chosen = sampling.choose(line)
    shown = scan.shown()
    rows = {shown[index].pts: row for row, index in enumerate(chosen)}
    hopping, straight = (tuple(plan(scan.packets, rows, starts)) for starts in (entries(scan.packets), []))
    for runs in dict.fromkeys((hopping, straight)):
        frames = _decode_runs(source, scan, runs, rows)
        if frames is not None:
            return Video.chosen(frames, line, chosen, source.name, scan.damage)
    return None


def _decode_runs(
    source: VideoFile, scan: Scan, runs: Iterable[range], rows: Mapping[int, int]
) -> UInt8[np.ndarray, "chosen H W 3"] | None:
    """The frames shown at the ticks in `rows`, in those rows. None if a run doesn't yield what its packets promise."""
    places = {(packet.pts, packet.size): place for place, packet in enumerate(scan.packets)}
    gallery = Gallery(len(rows))
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
            promised = {packet.pts for packet in scan.packets[run.start : run.stop] if packet.is_shown}
            if entry is not None:
                # What an open GOP shows before its keyframe belongs to the entry before, and is broken here.
                promised = {tick for tick in promised if tick is not None and tick >= entry}
            for frame in _Decoder(stream).frames(islice(packets, len(run))):
                if run.start and frame.pts == entry and frame.pict_type not in (PictureType.I, PictureType.NONE):
                    return None  # called a keyframe but none: x264's intra refresh, or a container's mistake
                promised.discard(frame.pts)
                if frame.pts is not None and frame.pts in rows:
                    gallery.hang(rows[frame.pts], frame)
            if promised:
                return None
    return gallery.frames()


def _decode_everything(source: VideoFile, scan: Scan, sampling: Sampling) -> Video:
    """Let the decoder say which frames there are (those without errors), then decode again to pick."""
    # After a failure without threads: with them, an error may swallow sound frames that are still in the pipeline.
    thread_type = "NONE" if scan.tells_frames else "AUTO"
    with source.opened(thread_type) as (container, stream):
        rate = stream.guessed_rate or stream.average_rate
        step = max(round(1 / (rate * scan.time_base)), 1) if rate else 1
        decoder = _Decoder(stream)
        frames = decoder.frames(islice(demuxed(container, stream), len(scan.packets)))
        told = [(frame.pts, frame.duration) for frame in frames]
    if not told:
        raise VideoError(f"none of the {len(scan.packets)} frames of {source.name} can be decoded{_because(scan)}")
    order, ticks = presentation([pts for pts, _ in told], step)
    line = timeline(ticks, told[order[-1]][1] or step, scan.time_base)
    chosen = sampling.choose(line)
    rows = {order[index]: row for row, index in enumerate(chosen)}
    gallery = Gallery(len(chosen))
    with source.opened(thread_type) as (container, stream):
        frames = _Decoder(stream).frames(islice(demuxed(container, stream), len(scan.packets)))
        for place, frame in enumerate(islice(frames, max(rows) + 1)):
            if place in rows:
                gallery.hang(rows[place], frame)
    pixels = gallery.frames()
    if pixels is None:
        raise VideoError(f"{source.name} changed while it was being read: leave it alone and read it again")
    num_lost = max(decoder.num_lost, len(scan.shown()) - len(ticks) if scan.tells_frames else 0)
    damage = [scan.damage, f"{num_lost} of its frames can't be decoded" if num_lost else None]
    return Video.chosen(pixels, line, chosen, source.name, "; ".join(filter(None, damage)) or None)


def _because(scan: Scan) -> str:
    return f" ({scan.damage})" if scan.damage else ""


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
