"""Little videos whose frames say which they are, and ways to spoil them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Container, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

WIDTH, HEIGHT = 64, 48
RATE = 30


GROUPS = "keyint=10:scenecut=0:bframes=2:qp=20"  # other rate controls of x264 are not reproducible
VARIABLE = [0, 10, 20, 33, 34, 35, 100, 500, 505, 515, 900, 1000, 1010, 1020, 1040, 1500, 1501, 1502, 1503, 2000]

FILES: dict[str, dict] = {
    "groups.mp4": {"options": {"x264-params": GROUPS}},
    "groups.mkv": {"options": {"x264-params": GROUPS}},
    "groups.ts": {"options": {"x264-params": GROUPS}},
    "groups.flv": {"options": {"x264-params": GROUPS}},
    "open.mp4": {"options": {"x264-params": GROUPS + ":open-gop=1"}},
    "open.ts": {"options": {"x264-params": GROUPS + ":open-gop=1"}},
    "long.mp4": {"options": {"x264-params": "keyint=250:scenecut=0:bframes=3:qp=20"}},
    "fragments.mp4": {
        "options": {"x264-params": GROUPS},
        "mux": {"movflags": "frag_keyframe+empty_moov+default_base_moof"},
    },
    "live.mkv": {"options": {"x264-params": GROUPS}, "mux": {"live": "1"}},  # a header without a duration
    "variable.mp4": {"num_frames": 20, "ticks": VARIABLE, "options": {"x264-params": "keyint=5:bframes=2:qp=20"}},
    "variable.mkv": {"num_frames": 20, "ticks": VARIABLE, "options": {"x264-params": "keyint=5:bframes=2:qp=20"}},
    "refresh.mp4": {"options": {"x264-params": "keyint=10:intra-refresh=1:scenecut=0:qp=20"}, "size": (176, 144)},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"g": "10", "deadline": "realtime", "cpu-used": "8"}},
    "vp8.webm": {"codec": "libvpx", "options": {"g": "10", "deadline": "realtime", "b": "400k"}},
    "hevc.mp4": {"codec": "libx265", "options": {"x265-params": "keyint=10:open-gop=1:log-level=none"}},
    "xvid.avi": {"codec": "mpeg4", "options": {"g": "10", "bf": "2"}},
    "motion.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "program.mpg": {"codec": "mpeg2video", "options": {"g": "10", "bf": "2"}, "format": "mpeg"},
    "raw.h264": {"options": {"x264-params": GROUPS}, "format": "h264"},  # no timestamps at all
    "moving.gif": {"codec": "gif", "pix_fmt": "rgb8"},
}


def picture(index: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """A frame that carries its index: eight black or white bars above, a texture that moves with it below."""
    pixels = np.zeros((height, width, 3), np.uint8)
    for bit in range(8):
        pixels[: height // 2, bit * width // 8 : (bit + 1) * width // 8] = 255 * (index >> bit & 1)
    y, x = np.mgrid[height // 2 : height, :width]
    for channel, step in enumerate((3, 5, 7)):
        pixels[height // 2 :, :, channel] = 40 + ((x + step * index) * (y + 3) * (channel + 1)) % 160
    return pixels


def index_of(frame: np.ndarray) -> int:
    """The index that a decoded `picture` carries."""
    height, width, _ = frame.shape
    bars = [frame[height // 4, (2 * bit + 1) * width // 16].mean() > 128 for bit in range(8)]
    return sum(1 << bit for bit, is_white in enumerate(bars) if is_white)


def indices_of(frames: np.ndarray) -> list[int]:
    return [index_of(frame) for frame in frames]


def write(
    path: Path,
    num_frames: int = 40,
    *,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    pix_fmt: str = "yuv420p",
    format: str | None = None,  # noqa: A002 the name that PyAV has for it
    mux: dict[str, str] | None = None,
    ticks: Sequence[int] | None = None,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    audio_seconds: float = 0,
    rate: int | Fraction = RATE,
    **stream_fields: Any,
) -> Path:
    """Encode `num_frames` pictures at `rate` a second, or shown at `ticks` milliseconds."""
    time_base = Fraction(1) / rate if ticks is None else Fraction(1, 1000)
    with av.open(str(path), "w", format=format, options=mux or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        if codec.startswith("libvpx"):  # whose threads spin: on fewer cores than threads it once took 44 s for 1
            stream.codec_context.thread_count = 1
        if ticks is not None:
            stream.codec_context.time_base = time_base
        for name, value in stream_fields.items():
            setattr(stream.codec_context, name, value)
        sound = container.add_stream("aac", rate=16000) if audio_seconds else None
        container.start_encoding()  # or a video of no frames would be no file
        for index in range(num_frames):
            frame = av.VideoFrame.from_ndarray(picture(index, *size), format="rgb24")
            frame.pts = index if ticks is None else ticks[index]
            frame.time_base = time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound is not None:
            _mux_silence(container, sound, audio_seconds)
    return path


def write_audio(path: Path, seconds: float = 1, cover: bool = False) -> Path:
    """A file with sound only, or with sound and a cover picture as music files have it."""
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac" if not cover else "libmp3lame", rate=16000)
        art = None
        if cover:
            art = container.add_stream("png", rate=1)
            art.width, art.height, art.pix_fmt = WIDTH, HEIGHT, "rgb24"
            art.disposition = av.stream.Disposition.attached_pic.value
            frame = av.VideoFrame.from_ndarray(picture(1), format="rgb24")
            container.mux(art.encode(frame))
            container.mux(art.encode())
        _mux_silence(container, sound, seconds)
    return path


def make(folder: Path, name: str) -> Path:
    """The file of that name from `FILES`, made when first asked for."""
    path = folder / name
    return path if path.exists() else write(path, **FILES[name])


def _mux_silence(container: Any, sound: Any, seconds: float) -> None:
    for start in range(0, int(16000 * seconds), 1024):
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate, silence.pts, silence.time_base = 16000, start, Fraction(1, 16000)
        container.mux(sound.encode(silence))
    container.mux(sound.encode())


def remux(source: Path, target: Path, change: Any = None, mux: dict[str, str] | None = None) -> Path:
    """Copy the packets of a video into another container; `change(ordinal, packet)` may return other bytes."""
    with av.open(str(source)) as reader, av.open(str(target), "w", options=mux or {}) as writer:
        stream = reader.streams.video[0]
        copy = writer.add_stream_from_template(stream)
        for ordinal, packet in enumerate(packet for packet in reader.demux(stream) if packet.size):
            changed = None if change is None else change(ordinal, bytes(packet))
            if changed is not None:
                fresh = av.Packet(changed)
                fresh.pts, fresh.dts, fresh.time_base = packet.pts, packet.dts, packet.time_base
                fresh.duration, fresh.is_keyframe = packet.duration, packet.is_keyframe
                packet = fresh
            packet.stream = copy
            writer.mux(packet)
    return target


def garbled(ordinals: Container[int]) -> Callable[[int, bytes], bytes | None]:
    """For `remux`: the second half of these packets is nonsense, as long as what was there."""

    def change(ordinal: int, packet: bytes) -> bytes | None:
        middle = len(packet) // 2
        return packet[:middle] + bytes(byte ^ 0x55 for byte in packet[middle:]) if ordinal in ordinals else None

    return change


def turn(mp4: bytes, matrix: tuple[int, int, int, int]) -> bytes:
    """The same MP4 file to be shown with (x, y) at (a x + c y, b x + d y), as phones write it into its track header."""
    data = bytearray(mp4)
    a, b, c, d = (entry << 16 for entry in matrix)
    struct.pack_into(">5i", data, data.index(b"tkhd") + 44, a, b, 0, c, d)
    return bytes(data)


def decode_all(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Every frame from start to end by PyAV alone, and its time in seconds since the first."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoded = [(frame.pts, frame.to_ndarray(format="rgb24")) for frame in container.decode(stream)]
        times = [float((pts - decoded[0][0]) * stream.time_base) for pts, _ in decoded if pts is not None]
        return np.stack([pixels for _, pixels in decoded]), np.array(times)
