"""Spare packets: what is left away changes no other frame, to the bit, and is left away only where nobody doubts."""

import hashlib
import io
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import video_zoo as zoo
from specvlm import video
from specvlm.video.files.container import VideoFile
from specvlm.video.files.packets import Packet, Scan, needed
from specvlm.video.files.spare import ALONE, REFERRED_TO, Kind, behind_lengths, behind_start_codes, reader, spare
from video_zoo import indices_of, write

X264 = {"bf": "3", "g": "15", "sc_threshold": "0"}
X265 = "log-level=error:keyint=16:min-keyint=16:bframes=4:b-adapt=0:scenecut=0"
FILMS: dict[str, dict[str, Any]] = {
    "x264.mp4": {"options": X264},
    "x264 with a pyramid.mkv": {"options": X264 | {"b-pyramid": "normal", "preset": "slow"}},
    "x264.ts": {"options": X264},
    "x264 interlaced.mp4": {"options": X264 | {"flags": "+ilme+ildct"}},
    "x265.mp4": {"codec": "libx265", "options": {"x265-params": X265}},
    "x265.ts": {"codec": "libx265", "options": {"x265-params": X265}},
    "x265 in layers.mkv": {"codec": "libx265", "options": {"x265-params": X265 + ":temporal-layers=1"}},
    "mpeg2.mkv": {"codec": "mpeg2video", "options": {"bf": "2", "g": "12"}},
    "mpeg1.mkv": {"codec": "mpeg1video", "options": {"bf": "2", "g": "12"}},
    "mpeg4.mp4": {"codec": "mpeg4", "options": {"bf": "2", "g": "12"}},
}
WITHOUT: dict[str, dict[str, Any]] = {
    "x264 without B frames.mp4": {"options": {"bf": "0"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"lag-in-frames": "8"}},
    "av1.mp4": {"codec": "libsvtav1", "options": {"svtav1-params": "lookahead=8"}},
    "mpeg4 without B frames.mp4": {"codec": "mpeg4"},
}


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("spare")

    def made(name: str) -> Path:
        path = folder / name
        return path if path.exists() else write(path, 40, **(FILMS | WITHOUT)[name])

    return made


def scanned(path: Path) -> Scan:
    with path.open("rb") as file:
        return VideoFile(file, path.name).scan()


def decoded(path: Path, leave_out: frozenset[int] = frozenset()) -> dict[int, str]:
    """A digest of each frame by its time, straight from start to end but for the packets at `leave_out`."""
    frames: dict[int, str] = {}
    with av.open(io.BytesIO(path.read_bytes())) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        given_ = [packet for place, packet in enumerate(packets) if place not in leave_out]
        for packet in (*given_, None):
            for frame in stream.codec_context.decode(packet):
                assert frame.pts is not None
                frames[frame.pts] = hashlib.sha256(frame.to_ndarray(format="rgb24").tobytes()).hexdigest()
    return frames


@pytest.mark.parametrize("name", FILMS)
def test_no_other_frame_changes_without_them(name, film):
    path = film(name)
    packets = scanned(path).packets
    left_out = frozenset(place for place, packet in enumerate(packets) if packet.is_spare)
    assert len(left_out) >= 10
    right, found = decoded(path), decoded(path, left_out)
    assert found == {pts: frame for pts, frame in right.items() if pts in found}
    assert found.keys() == right.keys() - {packets[place].pts for place in left_out}


@pytest.mark.parametrize("name", FILMS)
def test_of_the_others_none_could_be_left_out_as_well(name, film):
    """So that the test above would notice if too much were called spare."""
    path = film(name)
    packets = scanned(path).packets
    right, noticed = decoded(path), 0
    others = [place for place, packet in enumerate(packets) if not (packet.is_spare or packet.is_key)][:4]
    for place in others:
        try:
            found = decoded(path, frozenset({place}))
        except av.error.FFmpegError:
            noticed += 1
            continue
        noticed += found != {pts: frame for pts, frame in right.items() if pts != packets[place].pts}
    # x264 and x265 may allow for references that they then don't make.
    assert others
    assert noticed >= len(others) / 2


@pytest.mark.parametrize("name", WITHOUT)
def test_where_nothing_says_so_nothing_is_spare(name, film):
    assert not any(packet.is_spare for packet in scanned(film(name)).packets)


@pytest.mark.parametrize("num_frames", [1, 3, 7, 20, 40])
@pytest.mark.parametrize("name", FILMS | WITHOUT)
def test_the_frames_are_those_of_a_straight_decode(name, num_frames, film):
    path = film(name)
    right = decoded(path)
    found = video.load(path, num_frames=num_frames)
    places = indices_of(found.frames) if "vp9" not in name else None
    ordered = [right[pts] for pts in sorted(right)]
    digests = [hashlib.sha256(np.ascontiguousarray(frame).tobytes()).hexdigest() for frame in found.frames]
    assert len(digests) == num_frames
    if places is not None:
        assert digests == [ordered[place] for place in places]
        assert all(earlier < later for earlier, later in pairwise(places))
    assert set(digests) <= set(ordered)
    assert found.damage is None


@pytest.mark.parametrize("name", FILMS | WITHOUT)
def test_read_straight_the_frames_are_the_same(name, film):
    ours, straight = (video.load(film(name), num_frames=7, backend=backend) for backend in ("pyav", "straight"))
    assert np.array_equal(straight.frames, ours.frames)
    assert straight.metadata() == ours.metadata()
    assert straight.damage is None


@pytest.mark.parametrize("name", ["x264.mp4", "mpeg2.mkv"])
def test_what_is_damaged_in_a_frame_that_nobody_asked_for_is_told_by_who_reads_straight(name, film, tmp_path):
    whole = film(name)
    scan, sound = scanned(whole), video.load(whole, num_frames=3)
    wanted = frozenset(scan.shown()[place].pts for place in sound.indices)
    unwanted = sorted(set(range(len(scan.packets))) - needed(scan.packets, wanted))
    told = []
    for place in unwanted[:6]:
        path = zoo.remux(whole, tmp_path / f"{place}{whole.suffix}", zoo.garbled([place]))
        passing, straight = (video.load(path, num_frames=3, backend=backend) for backend in ("pyav", "straight"))
        assert np.array_equal(passing.frames, sound.frames)
        told.append((passing.damage, straight.damage))
    assert any(straight and "can't be decoded" in straight for _, straight in told)
    assert [passing for passing, _ in told] == [None] * 6


def test_only_the_topmost_layer_is_spare():
    """What is alone in its layer may be referred to from above."""
    kinds = [Kind(0, True), Kind(0, False), Kind(1, True), Kind(1, False), Kind(2, False), Kind(2, True)]
    assert spare(kinds) == [False, False, False, False, True, False]
    assert spare(kinds[:2]) == [False, True]
    assert spare([]) == []


def test_a_wanted_frame_is_decoded_with_what_comes_behind_it_and_with_every_keyframe():
    packets = [Packet(pts, pts, 1, is_key=pts in (0, 4), is_spare=pts != 1) for pts in range(8)]
    assert needed(packets, {3}) == {0, 1, 3, 4}
    assert needed(packets, {6, 7}) == {0, 1, 4, 6, 7}
    assert needed(packets, set()) == {0, 1, 4}


def in_lengths(*units: bytes) -> bytes:
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)


def behind_codes(*units: bytes) -> bytes:
    return b"".join(b"\0\0\1" + unit for unit in units)


AVCC, HVCC = b"\1dddd\xff"[:4] + b"\xff", b"\1" + bytes(20) + b"\xff"


@pytest.mark.parametrize(
    ("units", "kind"),
    [
        ([b"\1."], ALONE),
        ([b"\x06sei", b"\1.", b"\1."], ALONE),
        ([b"\x21."], REFERRED_TO),
        ([b"\1.", b"\x21."], REFERRED_TO),  # one field alone, the other referred to
        ([b"\x65."], REFERRED_TO),
        ([b"\2.", b"\3."], REFERRED_TO),  # partitions
        ([b"\1.", b"\x14."], REFERRED_TO),  # another layer or view
        ([b"\x06sei"], REFERRED_TO),
    ],
)
def test_h264_slices_say_whether_they_are_referred_to(units, kind):
    assert reader("h264", AVCC)(in_lengths(*units)) == kind
    assert reader("h264", b"")(behind_codes(*units)) == kind


@pytest.mark.parametrize(
    ("units", "kind"),
    [
        ([b"\0\1."], ALONE),
        ([b"\x12\1."], REFERRED_TO),  # RASL_R
        ([b"\x10\1."], ALONE),  # RASL_N
        ([b"\2\1."], REFERRED_TO),
        ([b"\4\3."], Kind(2, False)),
        ([b"\0\x09."], Kind(0, True)),  # another layer of another kind: of depth, of quality
        ([b"\0\1.", b"\2\1."], REFERRED_TO),
        ([b"\x40\1."], REFERRED_TO),
    ],
)
def test_hevc_slices_say_so_too_and_in_which_layer(units, kind):
    assert reader("hevc", HVCC)(in_lengths(*units)) == kind
    assert reader("hevc", b"\0\0\0\1")(behind_codes(*units)) == kind


def test_pictures_that_are_packed_together_are_left_alone():
    kind_of = reader("mpeg4", b"")
    assert kind_of(behind_codes(b"\xb6\x80")) == ALONE
    assert kind_of(behind_codes(b"\xb6\x40")) == REFERRED_TO
    assert kind_of(behind_codes(b"\xb6\x40", b"\xb6\x80")) == REFERRED_TO
    assert kind_of(behind_codes(b"\xb6")) == REFERRED_TO


def test_a_length_that_is_damaged_makes_a_packet_needed():
    whole = in_lengths(b"\1.", b"\1.")
    kind_of = reader("h264", AVCC)
    assert kind_of(whole) == ALONE
    assert kind_of(b"\0\0\1\0" + whole[4:]) == REFERRED_TO
    assert kind_of(whole[:-1]) == REFERRED_TO


@given(st.sampled_from(["h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4", "vp9"]), st.binary(), st.binary())
def test_any_bytes_are_understood_or_taken_for_needed(codec, extradata, data):
    assert isinstance(reader(codec, extradata)(data), Kind)


@given(st.binary())
def test_units_are_cut_anywhere_in_any_bytes(data):
    assert all(len(unit) <= 3 for unit in behind_start_codes(data))
    assert all(len(unit) <= 3 for unit in behind_lengths(2)(data))
