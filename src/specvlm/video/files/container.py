"""A video file: opened, its packets read, and told apart from all that is no video."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from threading import Lock

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.format import Flags
from av.stream import Disposition
from av.video.stream import VideoStream

from specvlm.errors import SpecVLMError, VideoError, brief
from specvlm.video.files import fresh
from specvlm.video.files.intact import gif, matroska, telling, whole
from specvlm.video.files.packets import Packet, Scan, hide_unreachable, longest_step
from specvlm.video.files.reading import BinaryFile, Reading
from specvlm.video.files.spare import Kind, reader, spare
from specvlm.video.room import MAX_FRAME_PIXELS, require_frame

READ_SIZE = 1 << 17
"""Bytes read at once: a few calls into Python for each megabyte."""

HEAD_SIZE = 512
"""Bytes from the front of a file that tell what it is."""

MISSING_SECONDS = 0.2
"""A file that ends this much, and two frames, before its header says is reported as cut short."""

BROADCAST = ("mpeg", "mpegts")
"""MPEG program and transport streams, whose standard (ISO/IEC 13818-1) wants a time at least every 0.7 s."""

LONGEST_GAP = 10.0
"""Seconds between two frames of a broadcast from which on its clock has jumped: what FFmpeg takes for a jump, too."""

LONGEST_STILL = 3600.0
"""The same for every other file, where a still picture may stand for long: a recording of a screen, say."""

MOVING_PICTURES = ("gif", "apng")

MATROSKA = "matroska,webm"

MOST_IN_VAIN = 1 << 29
"""Bytes of which no packet comes, before a file isn't read any further: a frame of 12K, uncompressed, is shorter."""

MOST_PACKETS = 1 << 22
"""Coded frames of one file: 46 hours at 25 a second. A file of zeros takes no room on a disk, and may never end."""

STRICTER = {"libdav1d": {"strict": "1"}}
"""What a decoder, by FFmpeg's name, is told so that it notices more, and refuses nothing that is as it should be."""

LATE_TO_TELL = ("h264", "hevc", "mpeg4", "rv30", "rv40", "vvc")
"""Decoders, by FFmpeg's names, that with a thread for each picture may hand one out before its own thread has told that
it is damaged, since they show pictures in another order than they decode them. There they are to fail at what they
would else conceal: that is told each time. (With threads for slices, H.264's looks for no damage at all.)"""

SHORT_PICTURE = 0.01
"""Seconds, too few to be meant: a picture of an animation is then shown ten times as long, as browsers do."""


@contextmanager
def blaming(name: str, kind: str = "video") -> Iterator[None]:
    """Say in a `VideoError` which source it was, whatever FFmpeg or the file system stumbles over."""
    try:
        yield
    except SpecVLMError:
        raise
    except (FFmpegError, OSError, ValueError, ArithmeticError, MemoryError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise VideoError(f"{brief(name)} can't be read as a {kind}: {brief(reason)}") from error


@dataclass(frozen=True, slots=True)
class VideoFile:
    """A seekable binary file that holds a video from its first byte on. It is never closed here."""

    file: BinaryFile
    name: str
    lock: Lock = field(default_factory=Lock, repr=False, compare=False)
    """Held by who reads: there may be several, each with a place of its own."""

    @property
    def is_shared_cheaply(self) -> bool:
        """Whether reading at several places in turn costs nothing. (Files that unpack may begin anew each time.)"""
        return isinstance(getattr(self.file, "raw", self.file), io.FileIO | io.BytesIO)

    @contextmanager
    def opened(
        self, num_threads: int = 0, starts_fresh: bool = True, reading: Reading | None = None
    ) -> Iterator[tuple[InputContainer, VideoStream]]:
        """The container at its start, and its main video stream, to be decoded with `num_threads` (0: as many as FFmpeg
        likes); `starts_fresh`: from its start, and from no other packet that isn't `is_fresh`. Several may be open at
        once, each in a thread of its own, and by a `reading` of its own."""
        # No protocol is allowed: a playlist must not make us open other files or fetch URLs.
        isolated = {"protocol_whitelist": "none"}
        place = reading or Reading(self.file, self.lock, MOST_IN_VAIN)
        try:
            container = av.open(
                place,
                "r",
                container_options=isolated,  # as `options` it crashes PyAV 17.0 on MPEG-TS
                metadata_errors="ignore",
                buffer_size=READ_SIZE,
            )
        except FFmpegError as error:
            raise VideoError(f"{self.name} {self._diagnosis()}") from error
        if reading is None:
            place.patience = None  # it isn't told what comes of what is read
        with container:
            stream = container.streams.best("video")
            if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
                kinds = sorted({other.type for other in container.streams if other is not stream})
                raise VideoError(f"{self.name} holds no video, only {' and '.join(kinds) or 'an empty container'}")
            if stream.codec_context is None:
                raise VideoError(f"{self.name} is in a codec that this FFmpeg can't decode")
            require_frame(stream.codec_context.width, stream.codec_context.height, self.name)
            decoder = stream.codec_context
            is_late = decoder.name in LATE_TO_TELL
            if is_late and not starts_fresh:
                num_threads = 1  # there a sound file is full of what can't be decoded, and of no use
            limits = {"max_pixels": str(MAX_FRAME_PIXELS)}  # sizes may change as it goes on
            fails = {"err_detect": "explode"} if is_late and num_threads != 1 else {}
            decoder.options = limits | STRICTER.get(decoder.name, {}) | fails
            stream.thread_type, decoder.thread_count = "AUTO", num_threads
            yield container, stream

    def scan(self) -> Scan:
        """Read every packet, decode none."""
        packets, kinds, broken = list[Packet](), list[Kind](), list[int]()
        data, cut_short, missing, start, end = b"", False, None, 0.0, 0.0
        reading = Reading(self.file, self.lock, MOST_IN_VAIN)
        with self.opened(reading=reading) as (container, stream):
            reading.heard()  # opening looks here and there for what is in the file
            stream_index = stream.index
            is_picture = container.format.name.endswith("_pipe")
            hides_frames = stream.codec_context.name == "vp8"
            coded_as = stream.codec_context.name, stream.codec_context.extradata or b""
            kind_of, is_fresh, is_whole = reader(*coded_as), fresh.reader(*coded_as), whole.reader(*coded_as)
            try:
                # All streams, since the duration in the header is that of the longest.
                for packet in demuxed(container):
                    reading.heard()
                    duration = packet.duration or 0
                    if packet.pts is not None and packet.time_base:
                        start = min(start, float(packet.pts * packet.time_base))
                        end = max(end, float((packet.pts + duration) * packet.time_base))
                    if packet.stream is stream:
                        # A VP8 frame that is only there to be referred to says so in its first byte (RFC 6386, 9.1).
                        is_shown = not packet.is_discard and not (hides_frames and not memoryview(packet)[0] & 16)
                        data, is_key, cut_short = bytes(packet), packet.is_keyframe, packet.is_corrupt
                        broken.extend([len(packets)] * (not is_whole(data)))
                        packets.append(
                            Packet(
                                *(packet.pts, packet.dts, packet.size, duration, is_key, is_shown),
                                is_fresh=is_key and is_fresh(data),
                                byte=packet.pos,
                            )
                        )
                        kinds.append(kind_of(data))
                        if len(packets) > MOST_PACKETS:
                            raise VideoError(f"{self.name} has more than {MOST_PACKETS} frames: cut out what matters")
            except FFmpegError as error:
                missing = f"it can't be read further than {end:.2f} s: {error.strerror}"
            missing = reading.in_vain or missing
            header_end = start + (container.duration or 0) / av.time_base
            time_base = stream.time_base or Fraction(1, av.time_base)
            is_clocked = not container.format.flags & Flags.no_timestamps.value
            too_short = round(SHORT_PICTURE / time_base) if container.format.name in MOVING_PICTURES else 0
            longest = LONGEST_GAP if container.format.name in BROADCAST else LONGEST_STILL
            reorders = stream.codec_context.has_b_frames
            comment = container.metadata.get("comment")
            frame_pixels = stream.codec_context.width * stream.codec_context.height
            kind = container.format.name
        is_gif = coded_as[0] == "gif" and bool(packets)
        cut_short |= is_gif and gif.picture(data) is None
        if cut_short:  # half a packet would decode to half a frame
            packets.pop()
        tolerance = MISSING_SECONDS + 2 * end / max(len(packets), 1)
        outline = matroska.outline(self.file) if kind == MATROSKA and self.is_shared_cheaply else matroska.Outline()
        if missing is None and header_end - end > tolerance:
            missing = f"it ends at {end:.2f} s of {header_end:.2f} s"
        if missing is None and cut_short:
            missing = f"its last frame is cut short, at {end:.2f} s"
        if missing is None and is_gif and not gif.is_last(data):
            missing = "nothing tells that its last frame is the last: it may be cut short"
        packets = [
            packet._replace(is_spare=each and not packet.is_key)
            for packet, each in zip(packets, spare(kinds), strict=False)
        ]
        reachable = hide_unreachable(packets)
        num_hidden = sum(
            before.is_shown and not after.is_shown for before, after in zip(packets, reachable, strict=True)
        )
        found = [
            missing or outline.damage,
            telling.of_frames(packets, broken, time_base),
            telling.of_times(packets) if is_clocked else None,
        ]
        told = "; ".join(filter(None, found))
        if not told and num_hidden:
            told = f"its first {num_hidden} frames come before any keyframe"
        return Scan(
            reachable,
            time_base,
            told or None,
            stream_index,
            is_picture and len(packets) == 1,
            reorders,
            is_clocked and not any(packet.duration <= too_short for packet in packets if too_short),
            longest_step(packets, longest, time_base),
            too_short,
            comment,
            frame_pixels,
            kind,
            outline.seals,
        )

    def _diagnosis(self) -> str:
        """What a file is that no demuxer takes."""
        self.file.seek(0)
        head = self.file.read(HEAD_SIZE)
        if head[4:8] in (b"ftyp", b"mdat", b"moov", b"wide", b"free", b"skip"):
            return (
                "is an MP4 whose index (the moov box) is missing or broken: "
                "it was cut short or is still being written; copy or record it again"
            )
        if (plain := nothing_to_see(head)) is not None:
            return f"{plain}, not a video" if head else plain
        return "is no video that FFmpeg knows: expected a file such as MP4, MKV, WebM, MOV, AVI, MPEG-TS or GIF"


def nothing_to_see(head: bytes) -> str | None:
    """What a file is that begins with `head`, if that is nothing or text; a download that went wrong, mostly."""
    if not head:
        return "is empty (0 bytes)"
    text = head.decode("utf-8", errors="ignore")
    # A character may be cut in two at the end; anything else that is not text is lost in decoding, and missed.
    if len(text.encode()) > len(head) - 4 and all(char.isprintable() or char.isspace() for char in text):
        return f"is a text file that begins {text.lstrip()[:40]!r}"
    return None


def demuxed(container: InputContainer, *streams: VideoStream) -> Iterator[av.Packet]:
    """The packets that hold something: not those that flush the decoder, nor AVI's "same frame again"."""
    with suppress(IndexError):  # PyAV's at the end of the file, if there are more streams by then than at the start
        yield from (packet for packet in container.demux(*streams) if packet.size)
