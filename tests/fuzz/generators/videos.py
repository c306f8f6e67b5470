"""Videos that are damaged, odd, huge, endless or none, for `specvlm generate`: little films in codecs and containers
that PyAV writes, each with bits flipped, its end cut off, a hole in it, packets in another order, its head spoilt.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

import video_zoo as zoo
from fuzz.case import Case, nothing
from fuzz.material import ANSWERING, QUESTION, answer, film

NUM_FRAMES = 24
GROUPS = {"x264-params": "keyint=8:scenecut=0:bframes=2:qp=24"}
FILMS: dict[str, dict] = {
    "h264.mp4": {"options": GROUPS},
    "h264.mkv": {"options": GROUPS},
    "h264.ts": {"options": GROUPS},
    "h264.flv": {"options": GROUPS},
    "h264.nut": {"options": GROUPS, "format": "nut"},
    "h264.h264": {"options": GROUPS, "format": "h264"},
    "hevc.mp4": {"codec": "libx265", "options": {"x265-params": "keyint=8:log-level=none"}},
    "hevc.mkv": {"codec": "libx265", "options": {"x265-params": "keyint=8:log-level=none"}},
    "vp8.webm": {"codec": "libvpx", "options": {"g": "8", "deadline": "realtime", "b": "400k"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"g": "8", "deadline": "realtime", "cpu-used": "8"}},
    "vp9.mkv": {"codec": "libvpx-vp9", "options": {"g": "8", "deadline": "realtime", "cpu-used": "8"}},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"g": "8", "bf": "2"}},
    "mpeg4.mp4": {"codec": "mpeg4", "options": {"g": "8", "bf": "2"}},
    "mpeg2.mpg": {"codec": "mpeg2video", "options": {"g": "8", "bf": "2"}, "format": "mpeg"},
    "mpeg2.ts": {"codec": "mpeg2video", "options": {"g": "8", "bf": "2"}},
    "mjpeg.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "prores.mov": {"codec": "prores_ks", "pix_fmt": "yuv422p10le"},
    "ffv1.mkv": {"codec": "ffv1"},
    "wmv2.asf": {"codec": "wmv2", "options": {"g": "8"}},
    "flv1.flv": {"codec": "flv", "options": {"g": "8"}},
    "moving.gif": {"codec": "gif", "pix_fmt": "rgb8"},
    "moving.apng": {"codec": "apng", "pix_fmt": "rgb24", "format": "apng"},
}
Spoil = Callable[[bytes, random.Random], bytes]


def cases(seed: int) -> Iterator[Case]:
    """Places that are no video, then every film spoilt in every way, and then without end films with bits flipped."""
    yield from _sound()
    yield from _places()
    for name in FILMS:
        for how in SPOILT:
            yield _spoilt(name, how, seed)
    number = seed
    while True:
        number += 1
        for name in FILMS:
            yield _spoilt(name, "flips", number)


def _asked(video: str, *more: str) -> list[str]:
    return ["generate", video, QUESTION, *ANSWERING, *more]


# --- films, sound and spoilt ------------------------------------------------------------------------------------------


def _sound() -> Iterator[Case]:
    """The same pictures have the same answer in every container that holds their packets as they are."""
    for suffix in ("mp4", "mkv", "mov", "ts", "flv", "nut"):
        yield Case(f"sound-{suffix}", _asked(f"copy.{suffix}"), _copied(suffix), "answers", _known(suffix))
    for name in FILMS:
        yield Case(f"sound-{name}", _asked(name), lambda folder, name=name: _write(folder, name), "answers")
    for number in (0, 1, 2):
        make = lambda folder, number=number: zoo.write(folder / "short.mkv", number, codec="ffv1") and None  # noqa: E731
        yield Case(f"frames-{number}", _asked("short.mkv"), make, "answers" if number else "refused")


def _known(suffix: str) -> str | None:
    """The answer to the film, where its packets can be copied with their times."""
    return answer() if suffix in ("mp4", "mov", "nut") else None


def _copied(suffix: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / "film.mp4").write_bytes(film())
        zoo.remux(folder / "film.mp4", folder / f"copy.{suffix}")

    return make


def _write(folder: Path, name: str) -> None:
    zoo.write(folder / name, NUM_FRAMES, **FILMS[name])


def _spoilt(name: str, how: str, number: int) -> Case:
    def make(folder: Path) -> None:
        _write(folder, name)
        path = folder / name
        path.write_bytes(SPOILT[how](path.read_bytes(), random.Random(f"{name} {how} {number}")))

    return Case(f"{how}-{name}-{number}", _asked(name), make, "either")


def _flip(data: bytes, dice: random.Random, *, number: int = 1, first: int = 0) -> bytes:
    spoilt = bytearray(data)
    for _ in range(number):
        spoilt[dice.randrange(first, len(spoilt))] ^= 1 << dice.randrange(8)
    return bytes(spoilt)


def _flips(data: bytes, dice: random.Random) -> bytes:
    return _flip(data, dice, number=dice.choice([1, 5, 50]))


def _cut(data: bytes, dice: random.Random) -> bytes:
    return data[: dice.randrange(len(data) // 8, len(data))]


def _beheaded(data: bytes, dice: random.Random) -> bytes:
    return data[dice.randrange(1, len(data) // 2) :]


def _hole(data: bytes, dice: random.Random) -> bytes:
    start = dice.randrange(len(data))
    return data[:start] + bytes(min(dice.choice([16, 300, 5000]), len(data) - start)) + data[start + 5000 :]


def _noise(data: bytes, dice: random.Random) -> bytes:
    start = dice.randrange(len(data))
    return data[:start] + dice.randbytes(2000) + data[start + 2000 :]


def _head(data: bytes, dice: random.Random) -> bytes:
    """Numbers in front are what sizes, rates and counts are told by."""
    spoilt = bytearray(data)
    for _ in range(dice.choice([1, 4, 12])):
        spoilt[dice.randrange(min(900, len(spoilt)))] = dice.choice([0, 1, 127, 128, 255, dice.randrange(256)])
    return bytes(spoilt)


def _swapped(data: bytes, dice: random.Random) -> bytes:
    """Two stretches of the file change places, as packets of a transport stream do on their way."""
    first, second = sorted(dice.sample(range(len(data) // 8, len(data) - 188), 2))
    length = min(188, second - first)
    a, b = data[first : first + length], data[second : second + length]
    return data[:first] + b + data[first + length : second] + a + data[second + length :]


def _twice(data: bytes, dice: random.Random) -> bytes:
    return data + data[dice.choice([0, len(data) // 2]) :]


def _longer(data: bytes, dice: random.Random) -> bytes:
    return data + dice.choice([bytes(10_000), b"text " * 400, dice.randbytes(5000)])


SPOILT: dict[str, Spoil] = {
    "flip": _flip,
    "flips": _flips,
    "cut": _cut,
    "beheaded": _beheaded,
    "hole": _hole,
    "noise": _noise,
    "head": _head,
    "swapped": _swapped,
    "twice": _twice,
    "longer": _longer,
}


# --- places that are no video -----------------------------------------------------------------------------------------


def _places() -> Iterator[Case]:
    for name, make in NO_VIDEO.items():
        yield Case(f"no-{name}", _asked("it"), make, "refused")
    for place in ("/dev/zero", "/dev/random", "/dev/null", "/dev/tty", "/proc", "/proc/self/mem", "/proc/self/pagemap"):
        yield Case(f"place-{place}", _asked(place), nothing, "refused")
    for side, number in ((4000, 12), (9000, 3)):
        yield Case(f"pictures-{side}", _asked("it"), _pictures(side, number), "answers")
    yield Case("pictures-too-large", _asked("it"), _pictures(13_000, 1), "refused")


def _fifo(folder: Path) -> None:
    os.mkfifo(folder / "it")


def _loop(folder: Path) -> None:
    (folder / "it").symlink_to("it")


def _folder_of(make: Callable[[Path], object]) -> Callable[[Path], None]:
    """A folder `it` of pictures, of which the second isn't one."""

    def made(folder: Path) -> None:
        (folder / "it").mkdir()
        Image.fromarray(zoo.picture(1)).save(folder / "it" / "1.png")
        make(folder / "it" / "2.png")

    return made


def _itself(folder: Path) -> None:
    """A folder that leads into itself, and holds no picture."""
    (folder / "it").mkdir()
    (folder / "it" / "again").symlink_to(".")


def _sparse(head: Callable[[], bytes], size: int = 1 << 36) -> Callable[[Path], None]:
    """A file that takes no room on the disk: what `head` gives, and zeros as far as it says."""

    def make(folder: Path) -> None:
        with (folder / "it").open("wb") as file:
            file.write(head())
            file.truncate(size)

    return make


def _pictures(side: int, number: int) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / "it").mkdir()
        Image.new("RGB", (side, side), (200, 60, 20)).save(folder / "it" / "0.png", compress_level=1)
        for place in range(1, number):
            os.link(folder / "it" / "0.png", folder / "it" / f"{place}.png")

    return make


def _written(data: Callable[[], bytes]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / "it").write_bytes(data())

    return make


NO_VIDEO: dict[str, Callable[[Path], None]] = {
    "file": nothing,
    "single-byte": _written(lambda: b" "),
    "moov": _written(lambda: film()[:200]),
    "text": _written(lambda: b"WEBVTT\n\n00:00.000 --> 00:01.000\nhello\n"),
    "noise": _written(lambda: random.Random(5).randbytes(100_000)),
    "numbers": _written(lambda: np.arange(4000).tobytes()),
    "playlist": _written(lambda: b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:2.0,\n/etc/passwd\n#EXT-X-ENDLIST\n"),
    "list-of-files": _written(lambda: b"ffconcat version 1.0\nfile /etc/passwd\n"),
    "fifo": _fifo,
    "loop": _loop,
    "empty-folder": lambda folder: (folder / "it").mkdir(),
    "folder-in-itself": _itself,
    "picture-fifo": _folder_of(os.mkfifo),
    "picture-loop": _folder_of(lambda path: path.symlink_to(path.name)),
    "picture-device": _folder_of(lambda path: path.symlink_to("/dev/zero")),
    "picture-folder": _folder_of(lambda path: path.mkdir()),
    "picture-text": _folder_of(lambda path: path.write_text("no picture")),
    "picture-of-another-size": _folder_of(lambda path: Image.new("RGB", (9, 9)).save(path)),
    "zeros-without-end": _sparse(bytes),
}
