"""What is told of files that aren't as they were written, though a decoder sees nothing; and of sound ones, nothing."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path
from threading import Lock

import av
import numpy as np
import pytest
from PIL import Image

import video_zoo as zoo
from specvlm.errors import VideoError
from specvlm.video import load
from specvlm.video.files import container
from specvlm.video.files.container import VideoFile
from specvlm.video.files.intact import gif, matroska, whole
from specvlm.video.files.intact.telling import of_times
from specvlm.video.files.packets import Packet
from specvlm.video.files.reading import Reading

MORE = {
    "vp9.mkv": {"codec": "libvpx-vp9", "options": {"g": "10", "deadline": "realtime", "cpu-used": "8"}},
    "vp8.mkv": {"codec": "libvpx", "options": {"g": "10", "deadline": "realtime", "b": "400k"}},
    "av1.mp4": {"num_frames": 20, "codec": "libsvtav1", "options": {"svtav1-params": "lookahead=8:keyint=10"}},
    "bytes.ts": {"codec": "mpeg2video", "options": {"g": "10", "bf": "2"}},
    "bits.mkv": {"codec": "ffv1"},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    folder = tmp_path_factory.mktemp("intact")

    def read(name: str) -> bytes:
        path = folder / name
        if name in MORE and not path.exists():
            zoo.write(path, **MORE[name])
        return (path if name in MORE else zoo.make(folder, name)).read_bytes()

    return read


def packets_of(data: bytes) -> list[tuple[int, bytes]]:
    """Where each packet begins, and what is in it."""
    with av.open(io.BytesIO(data)) as file:
        return [(packet.pos, bytes(packet)) for packet in file.demux(video=0) if packet.size]


def flipped(data: bytes, place: int, bit: int = 3) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 1 << bit
    return bytes(changed)


@pytest.mark.parametrize("name", [*zoo.FILES, *MORE])
def test_of_what_is_sound_nothing_is_told(name: str, data) -> None:
    assert load(data(name), num_frames=1000).damage is None


# --- checksums of Matroska --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["groups.mkv", "vp8.mkv", "vp9.mkv", "bits.mkv", "live.mkv"])
def test_a_bit_that_flips_in_a_matroska_file_is_told_of(name: str, data) -> None:
    whole_file, dice = data(name), random.Random(name)
    places = packets_of(whole_file)
    for _ in range(6):
        place, packet = dice.choice(places)
        at = whole_file.index(packet, place) + dice.randrange(len(packet))
        damage = load(flipped(whole_file, at), num_frames=1000).damage
        assert damage is not None
        assert "its checksum is another one" in damage or "can't be decoded" in damage


def test_only_what_is_decoded_is_compared_with_its_checksum(data, monkeypatch: pytest.MonkeyPatch) -> None:
    sound, checked = data("vp9.mkv"), list[int]()
    is_whole = matroska.Seal.is_whole
    monkeypatch.setattr(
        matroska.Seal, "is_whole", lambda seal, file: checked.append(seal.start) or is_whole(seal, file)
    )
    seals = VideoFile(io.BytesIO(sound), "sound").scan().seals
    assert len(seals) == 4
    assert len(load(sound, choose=lambda _: np.array([0, 1])).frames) == 2
    assert set(checked) & {seal.start for seal in seals} == {seals[0].start}
    last = flipped(sound, seals[3].stop - 40)
    assert load(last, choose=lambda _: np.array([0, 1])).damage is None
    told = load(last, choose=lambda _: np.array([38])).damage
    assert told == "what it stores from 1.00 to 1.27 s isn't as it was written: its checksum is another one"


def test_a_header_that_was_changed_is_told_of(data) -> None:
    sound = data("groups.mkv")
    name = matroska.INFO.to_bytes(4, "big")
    place = sound.index(name, sound.index(name) + 1)  # the first is its entry in the seek head
    assert "its header isn't as it was written" in load(flipped(sound, place + 40), num_frames=2).damage


@pytest.mark.parametrize("name", ["live.mkv", "vp8.webm", "groups.mkv"])
def test_a_matroska_file_that_was_cut_says_so(name: str, data) -> None:
    sound = data(name)
    for part in (0.5, 0.9, 0.99):
        assert load(sound[: int(len(sound) * part)], num_frames=1000).damage is not None


def test_any_bytes_have_an_outline(data) -> None:
    sound, dice = data("groups.mkv"), random.Random(1)
    for _ in range(200):
        spoilt = bytearray(sound[: dice.randrange(len(sound))])
        for _ in range(dice.randrange(4) * bool(spoilt)):
            spoilt[dice.randrange(min(300, len(spoilt)))] = dice.randrange(256)
        found = matroska.outline(io.BytesIO(bytes(spoilt)))
        assert all(0 < seal.start <= seal.stop <= len(spoilt) for seal in found.seals)


# --- pictures of a GIF ------------------------------------------------------------------------------------------------


def test_the_pixels_of_a_gif_are_counted() -> None:
    dice = np.random.default_rng(0)
    for colours, size in [(2, (9, 5)), (4, (64, 48)), (256, (200, 150)), (128, (1, 1)), (256, (320, 240))]:
        noise = Image.fromarray(dice.integers(0, 256, (*size[::-1], 3), np.uint8)).quantize(colours)
        flat = Image.new("P", size)
        for image in (noise, flat):
            file = io.BytesIO()
            image.save(file, "GIF")
            found = gif.picture(file.getvalue())
            assert found is not None
            assert found.num_pixels == size[0] * size[1] == gif.num_pixels(found.least, found.codes)
            assert gif.is_last(file.getvalue())
            assert gif.picture(file.getvalue()[:-3]) is None


def test_a_table_that_is_never_cleared_is_read_on() -> None:
    """By hand: 8-bit pixels in codes that say one each, long after the table is full."""
    number, bits, clear = 6000, 0, 256
    place = 9
    bits |= clear
    for step in range(number):
        width = min((clear + 2 + max(0, step - 1)).bit_length(), 12)
        bits |= (step % 256) << place
        place += width
    bits |= (clear + 1) << place
    codes = bits.to_bytes((place + 12 + 7) // 8, "little")
    assert gif.num_pixels(8, codes) == number
    assert gif.num_pixels(8, codes[: len(codes) // 2]) is None


def test_many_bits_that_flip_in_a_gif_are_told_of(data) -> None:
    sound, dice, told = data("moving.gif"), random.Random(0), 0
    for _ in range(24):
        place, packet = dice.choice(packets_of(sound)[1:])
        told += load(flipped(sound, place + 40 + dice.randrange(len(packet) - 44)), num_frames=1000).damage is not None
    assert told >= 8  # a code for one pixel that becomes another such code is none the longer


def test_a_gif_that_was_cut_ends_with_its_last_whole_picture(data) -> None:
    sound = data("moving.gif")
    frames = load(sound, num_frames=1000).frames
    for part in (0.3, 0.7, 0.99):
        video = load(sound[: int(len(sound) * part)], num_frames=1000)
        assert "its last frame is cut short" in video.damage
        assert np.array_equal(video.frames, frames[: len(video.frames)])  # none is half of one and half another
    between = packets_of(sound)[20][0]
    assert "may be cut short" in load(sound[:between], num_frames=1000).damage


# --- units of H.264 and HEVC ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["groups.mp4", "hevc.mp4", "groups.flv", "groups.ts"])
def test_a_hole_in_any_frame_is_told_of_though_nobody_decodes_it(name: str, data) -> None:
    sound = data(name)
    place, packet = packets_of(sound)[17]
    at = sound.index(packet[20:60], place) if name != "groups.ts" else place + 100
    spoilt = sound[:at] + bytes(40) + sound[at + 40 :]
    assert "1 of its 40 frames are damaged inside, the first at " in load(spoilt, num_frames=1).damage


def test_units_hold_together() -> None:
    def unit(data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + data

    check = whole.reader("h264", b"\1ddd\xff")
    assert check(unit(b"\x65abc") + unit(b"\x41" + b"\0\0\3\1" * 3))
    assert check(unit(b"\x41abc\0\0\0"))  # what some writers leave behind a unit
    assert check(unit(b"\x5e\0\0\1"))  # of a kind that the standard leaves open
    assert not check(unit(b"\xe5abc"))
    assert not check(unit(b"\x41a\0\0\1b"))
    assert not check(unit(b"\x41abc")[:-1])
    between = whole.reader("hevc", b"")
    assert between(bytes(1 << 20) + b"\1" + bytes(1 << 20))  # in no time: a run of zeros is looked at once
    assert between(b"\0\0\0\1\x40\1a\0\0\3\0\0\0\1\x42\1b\0\0\0")
    assert not between(b"\0\0\1\x40\1a\0\0\0b\0\0\1\x42")
    assert not between(b"\0\0\1\xc0\1a")
    assert whole.reader("vp9", b"")(b"anything")


# --- AV1, times, files without an end ---------------------------------------------------------------------------------


def test_a_strict_decoder_of_av1_sees_more(data, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = data("av1.mp4")
    spoilt = []
    for place, packet in packets_of(sound):
        at = place + len(packet) - 2
        spoilt.append(flipped(sound, at))
    told = [load(each, num_frames=1000).damage is not None for each in spoilt]
    monkeypatch.setattr(container, "STRICTER", {})
    told_before = [load(each, num_frames=1000).damage is not None for each in spoilt]
    assert sum(told) > sum(told_before)


def test_times_that_are_all_zero_are_told_of(data, tmp_path: Path) -> None:
    sound = bytearray(data("groups.mkv"))
    for place, packet in packets_of(bytes(sound)):
        at = sound.index(packet, place)
        sound[at - 3 : at - 1] = bytes(2)
    for cluster in matroska.outline(io.BytesIO(bytes(sound))).seals:
        at = cluster.start
        assert sound[at] == 0xE7  # the cluster's time
        length = sound[at + 1] & 127
        sound[at + 2 : at + 2 + length] = bytes(length)
    video = load(bytes(sound), num_frames=1000)
    assert zoo.indices_of(video.frames) != []
    assert "its times are lost, and made up: 39 of its 40 frames are at the time of the one before" in video.damage
    assert of_times([Packet(pts, pts, 1) for pts in [*range(9), *range(9)]]) is None  # two recordings
    assert of_times([Packet(pts // 2, pts, 1) for pts in range(4)]) is not None
    assert of_times([Packet(0, 0, 1)] * 2) is None


class Endless(io.RawIOBase):
    """A file that begins as another one does, and goes on with zeros, as a sparse one."""

    def __init__(self, head: bytes) -> None:
        self._head, self._place, self.num_read = head, 0, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._place = offset + (self._place if whence == 1 else 1 << 50 if whence == 2 else 0)
        return self._place

    def read(self, size: int = -1, /) -> bytes:
        assert size >= 0
        data = self._head[self._place : self._place + size]
        data += bytes(size - len(data))
        self._place, self.num_read = self._place + size, self.num_read + size
        return data


@pytest.mark.parametrize("name", ["live.mkv", "groups.ts", "raw.h264", "groups.flv"])
def test_a_file_without_an_end_is_not_read_for_ever(name: str, data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "MOST_IN_VAIN", 1 << 24)
    head = data(name)
    endless = Endless(head)
    scan = VideoFile(endless, name).scan()
    assert scan.damage is not None
    # Of a transport stream the last times are looked for at its end, when it is opened.
    assert len(scan.packets) == 0 if name.endswith("ts") else 30 <= len(scan.packets) <= 41
    assert endless.num_read < 1 << 26


def test_a_file_of_more_frames_than_anybody_films_is_refused(data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "MOST_PACKETS", 39)
    with pytest.raises(VideoError, match="has more than 39 frames"):
        load(data("groups.mp4"), num_frames=2)


def test_reading_in_vain_ends() -> None:
    reading = Reading(io.BytesIO(bytes(100)), Lock(), patience=30)
    for _ in range(3):
        assert len(reading.read(20)) == 20
        reading.heard()
    assert [len(reading.read(20)) for _ in range(3)] == [20, 20, 0]
    assert reading.in_vain == "no frame comes of the 40 bytes up to byte 100"


class Failing(io.BytesIO):
    """A file on a disk that is broken."""

    def read(self, size: int | None = -1, /) -> bytes:
        raise OSError(5, "Input/output error")


def test_a_file_that_can_not_be_read_is_refused_by_name() -> None:
    failing = Failing(b"something")
    with pytest.raises(VideoError, match="the open file can't be read as a video: Input/output error"):
        load(failing)
