"""Fresh starts: what is decoded from one is to the bit what a decode from the start of the file shows."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest

from specvlm.video.files import fresh
from specvlm.video.files.container import VideoFile
from specvlm.video.files.packets import Packet
from video_zoo import write

X264 = "keyint=15:min-keyint=15:scenecut=0:bframes=3:qp=24"
X265 = "log-level=error:keyint=15:min-keyint=15:bframes=4:scenecut=0"
FILMS: dict[str, dict[str, Any]] = {
    "x264.mp4": {"options": {"x264-params": X264}},
    "x264.ts": {"options": {"x264-params": X264}},
    "x265.mp4": {"codec": "libx265", "options": {"x265-params": X265 + ":open-gop=0"}},
    "x265 open.mkv": {"codec": "libx265", "options": {"x265-params": X265 + ":open-gop=1"}},
    "vp8.webm": {"codec": "libvpx", "options": {"g": "15", "auto-alt-ref": "1", "lag-in-frames": "8"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"g": "15", "lag-in-frames": "8"}},
    "av1.mp4": {"codec": "libsvtav1", "options": {"svtav1-params": "keyint=15"}},
    "av1.mkv": {"codec": "libsvtav1", "options": {"svtav1-params": "keyint=15"}},
    "mpeg1.mkv": {"codec": "mpeg1video", "options": {"bf": "2", "g": "15"}},
    "mpeg2.mkv": {"codec": "mpeg2video", "options": {"bf": "2", "g": "15"}},
    "mpeg4.mp4": {"codec": "mpeg4", "options": {"bf": "2", "g": "15"}},
    "mjpeg.mkv": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
}
NOT_FRESH: dict[str, dict[str, Any]] = {
    "x264 open.mkv": {"options": {"x264-params": X264 + ":open-gop=1"}},
    "x264 ever new.mkv": {"options": {"x264-params": X264 + ":intra-refresh=1"}, "size": (176, 144)},
}


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("fresh")

    def made(name: str) -> Path:
        path = folder / name
        return path if path.exists() else write(path, 60, **(FILMS | NOT_FRESH)[name])

    return made


def scanned(path: Path) -> list[Packet]:
    with path.open("rb") as file:
        return list(VideoFile(file, path.name).scan().packets)


def decoded(path: Path, first: int) -> dict[int | None, str]:
    """A digest of each frame by its time, of the packets from `first` on."""
    frames = {}
    with av.open(io.BytesIO(path.read_bytes())) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        for packet in (*packets[first:], None):
            for frame in stream.codec_context.decode(packet):
                frames[frame.pts] = hashlib.sha256(frame.to_ndarray(format="rgb24").tobytes()).hexdigest()
    return frames


@pytest.mark.parametrize("name", FILMS)
def test_from_there_on_nothing_is_missed(name, film):
    path = film(name)
    packets = scanned(path)
    starts = [place for place, packet in enumerate(packets) if packet.is_fresh]
    assert len(starts) >= 4
    right = decoded(path, 0)
    for start in starts[:6]:
        since = {pts: frame for pts, frame in right.items() if pts >= packets[start].pts}
        assert {pts: frame for pts, frame in decoded(path, start).items() if pts in since} == since


@pytest.mark.parametrize("name", FILMS)
def test_only_keyframes_are_fresh(name, film):
    assert all(packet.is_key for packet in scanned(film(name)) if packet.is_fresh)


@pytest.mark.parametrize("name", NOT_FRESH)
def test_what_a_decoder_may_join_at_is_not_yet_fresh(name, film):
    packets = scanned(film(name))
    assert sum(packet.is_key for packet in packets) >= 4
    assert [place for place, packet in enumerate(packets) if packet.is_fresh] == [0]


OBU_SIZED = 2


@pytest.mark.parametrize(
    ("codec", "data", "expected"),
    [
        ("vp8", b"\x10", True),
        ("vp8", b"\x11", False),
        ("vp8", b"", False),
        ("vp9", b"\x82", True),
        ("vp9", b"\x86", False),  # not a key frame
        ("vp9", b"\x88", False),  # an older one, shown
        ("vp9", b"\xb0", False),  # a profile that has its bits elsewhere
        ("vp9", b"\x02", False),  # no VP9
        ("av1", bytes([2 << 3 | OBU_SIZED, 0, 6 << 3 | OBU_SIZED, 1, 0b00010000]), True),
        ("av1", bytes([6 << 3, 0b00010000]), True),  # the last unit need not tell its size
        ("av1", bytes([6 << 3 | 4 | OBU_SIZED, 0, 1, 0b00010000]), True),  # of a layer
        ("av1", bytes([1 << 3 | OBU_SIZED, 0x81, 0, 0xFF, 3 << 3 | OBU_SIZED, 1, 0b00010000]), True),  # a long size
        ("av1", bytes([6 << 3 | OBU_SIZED, 1, 0b00000000]), False),  # a key frame for later
        ("av1", bytes([6 << 3 | OBU_SIZED, 1, 0b10010000]), False),  # an older frame, shown
        ("av1", bytes([6 << 3 | OBU_SIZED, 1, 0b00110000]), False),  # not a key frame
        ("av1", bytes([2 << 3 | OBU_SIZED, 0]), False),
        ("av1", bytes([6 << 3 | OBU_SIZED, 0x80, 0x80]), False),  # cut short
        ("av1", b"", False),
        ("h264", b"\0\0\1\x65.\0\0\1\x65.", True),
        ("h264", b"\0\0\1\x65.\0\0\1\x41.", False),
        ("h264", b"\0\0\1\x06.", False),
        ("hevc", b"\0\0\1\x2a\1.", True),
        ("hevc", b"\0\0\1\x02\1.", False),
        ("mpeg2video", b"\0\0\1\0.\x08", True),
        ("mpeg2video", b"\0\0\1\0.\x10", False),
        ("mpeg2video", b"\0\0\1\0", False),
        ("mpeg4", b"\0\0\1\xb6\x00", True),
        ("mpeg4", b"\0\0\1\xb6\x40", False),
        ("mpeg4", b"\0\0\1\xb6\x00\0\0\1\xb6\x40", False),
        ("theora", b"\0", False),
    ],
)
def test_the_bits_that_say_so(codec, data, expected):
    assert fresh.reader(codec, b"")(data) == expected
