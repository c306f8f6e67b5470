"""In which order frames are shown and when, where the times in a file are made up, start again or jump."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

import video_zoo as zoo
from specvlm.video import load
from specvlm.video.backends import torchcodec
from specvlm.video.processor_sampling import processor_sampling
from specvlm.video.sampling import uniform


@pytest.fixture(scope="module", autouse=True)
def only_pyav() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torchcodec, "decoder_class", lambda: None)
        yield


# --- containers without times of presentation -------------------------------------------------------------------------

H264 = {"options": {"x264-params": "keyint=12:scenecut=0:bframes=3:b-pyramid=strict:b-adapt=0:qp=20"}}
OPEN = {"options": {"x264-params": "keyint=12:scenecut=0:bframes=3:open-gop=1:qp=20"}}
ASP = {"codec": "mpeg4", "options": {"g": "10", "bf": "2"}}
MPEG2 = {"codec": "mpeg2video", "options": {"g": "10", "bf": "2"}}
MPEG1 = {"codec": "mpeg1video", "options": {"g": "10", "bf": "2"}}
HEVC = {"codec": "libx265", "options": {"x265-params": "keyint=10:bframes=3:log-level=none"}}

UNTIMED = {
    "h264.avi": H264,
    "open.avi": OPEN,
    "interlaced.avi": {"options": {"x264-params": "keyint=12:bframes=3:qp=20:interlaced=1"}},
    "straight.avi": {"options": {"x264-params": "keyint=12:bframes=0:qp=20"}},
    "asp.avi": ASP,
    "mpeg2.avi": MPEG2,
    "h264.asf": H264,
    "h264.mxf": H264 | {"rate": 25},
    "mpeg2.mxf": MPEG2 | {"rate": 25},
    "raw.h264": H264 | {"format": "h264"},
    "seven.h264": H264 | {"format": "h264", "rate": 7},
    "ntsc.h264": H264 | {"format": "h264", "rate": Fraction(30000, 1001)},
    "raw.hevc": HEVC | {"format": "hevc"},
    "raw.m4v": ASP | {"format": "m4v"},
    "raw.m2v": MPEG2 | {"format": "mpeg2video"},
    "raw.m1v": MPEG1 | {"format": "mpeg1video"},
    "dvd.vob": MPEG2 | {"format": "vob"},
    "program.mpg": H264 | {"format": "mpeg"},
    "h264.nut": H264,
    "h264.flv": H264,
}


@pytest.mark.parametrize("name", UNTIMED)
def test_frames_are_shown_in_the_decoders_order_at_a_constant_rate(name: str, tmp_path: Path) -> None:
    path = zoo.write(tmp_path / name, **UNTIMED[name])
    plain, _ = zoo.decode_all(path)
    assert zoo.indices_of(plain) == list(range(40))
    rate = float(UNTIMED[name].get("rate", zoo.RATE))
    for num_frames in (1, 2, 5, 1000):
        video = load(path, num_frames=num_frames)
        chosen = uniform(40, num_frames)
        assert zoo.indices_of(video.frames) == chosen.tolist()
        assert np.array_equal(video.frames, plain[chosen])
        assert np.allclose(video.timestamps, chosen / rate, atol=1e-3)
        assert video.damage is None
        assert video.duration == pytest.approx(40 / rate, abs=3e-3)
    by_time = load(path, fps=rate / 4)
    assert zoo.indices_of(by_time.frames) == list(range(0, 40, 4))


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "mov", "ts", "flv", "nut"])
def test_false_times_stay_false_when_they_are_copied_into_another_container(suffix: str, tmp_path: Path) -> None:
    path = zoo.remux(zoo.write(tmp_path / "h264.avi", **H264), tmp_path / f"copied.{suffix}")
    video = load(path, num_frames=7)
    assert zoo.indices_of(video.frames) == uniform(40, 7).tolist()
    assert np.allclose(video.timestamps, uniform(40, 7) / zoo.RATE, atol=2e-3)


def test_a_mov_without_composition_times(tmp_path: Path) -> None:
    data = zoo.write(tmp_path / "h264.mov", **H264).read_bytes()
    for box in (b"ctts", b"edts"):  # QuickTime of old wrote neither
        data = data.replace(box, b"free")
    video = load(data, num_frames=1000)
    assert zoo.indices_of(video.frames) == list(range(40))
    assert np.allclose(video.timestamps, np.arange(40) / zoo.RATE)


def test_a_packed_bitstream(tmp_path: Path) -> None:
    """DivX and Xvid put a B-frame into the packet of the frame that it needs, and a packet of nothing behind it."""
    source = zoo.write(tmp_path / "plain.avi", codec="mpeg4", options={"g": "10", "bf": "1"})
    start_of_picture = b"\0\0\1\xb6"
    with av.open(str(source)) as reader:
        coded = [(bytes(packet), packet.is_keyframe) for packet in reader.demux(video=0) if packet.size]
        kinds = [data[data.index(start_of_picture) + 4] >> 6 for data, _ in coded]
        packed: list[tuple[bytes, bool]] = []
        for (data, is_key), kind, after in zip(coded, kinds, [*coded[1:], None], strict=True):
            if kind == 2:  # a B-frame: it went with the one before
                packed.append((start_of_picture + b"\x50\0\x7f", False))
            elif after is not None and kinds[len(packed) + 1] == 2:
                packed.append((data + after[0], is_key))
            else:
                packed.append((data, is_key))
        first = packed[0][0]
        split = first.index(start_of_picture)
        packed[0] = (first[:split] + b"\0\0\1\xb2DivX503b1393p" + first[split:], True)
        with av.open(str(tmp_path / "packed.avi"), "w") as writer:
            stream = writer.add_stream_from_template(reader.streams.video[0])
            for place, (data, is_key) in enumerate(packed):
                packet = av.Packet(data)
                packet.pts = packet.dts = place
                packet.time_base, packet.duration, packet.is_keyframe = Fraction(1, 30), 1, is_key
                packet.stream = stream
                writer.mux(packet)
    assert 2 in kinds
    video = load(tmp_path / "packed.avi", num_frames=1000)
    assert zoo.indices_of(video.frames) == list(range(40))
    assert np.allclose(video.timestamps, np.arange(40) / zoo.RATE)


def test_the_frames_of_an_avi_that_was_cut_short(tmp_path: Path) -> None:
    data = zoo.write(tmp_path / "h264.avi", **H264).read_bytes()
    video = load(data[: len(data) * 2 // 3], num_frames=1000)
    indices = zoo.indices_of(video.frames)
    assert 10 < len(indices) < 40
    assert indices == sorted(indices)
    assert video.damage is not None
    assert (np.diff(video.timestamps) > 0).all()


# --- clocks that start again or jump ----------------------------------------------------------------------------------


def later(source: Path, target: Path, seconds: float | Fraction, start: int = 0) -> Path:
    """The same packets, those from the `start`-th on that many seconds later."""
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        copy = writer.add_stream_from_template(reader.streams.video[0])
        for ordinal, packet in enumerate(packet for packet in reader.demux(video=0) if packet.size):
            if ordinal >= start:
                shift = int(seconds / packet.time_base)
                packet.pts += shift
                packet.dts = None if packet.dts is None else packet.dts + shift
            packet.stream = copy
            writer.mux(packet)
    return target


@pytest.fixture(scope="module")
def groups(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """40 frames in groups of 10, from some second on, or with a gap in front of the 20th."""
    folder = tmp_path_factory.mktemp("clocks")

    def make(suffix: str, seconds: float | Fraction = 0, start: int = 0) -> Path:
        target = folder / f"{start}_{float(seconds)}.{suffix}"
        source = zoo.make(folder, "program.mpg" if suffix == "mpg" else "groups.mp4")
        return target if target.exists() else later(source, target, seconds, start)

    return make


JOINED = {
    "the same again": (0, 0),
    "a later one": (0, 1000),
    "a little later": (0, 15),
    "an earlier one": (1000, 0),
    "overlapping": (10, 9.5),
    "much earlier": (80000, 100),
}


@pytest.mark.parametrize("joined", JOINED)
@pytest.mark.parametrize("suffix", ["ts", "mpg"])
def test_recordings_in_one_file_follow_each_other(suffix: str, joined: str, groups) -> None:
    data = b"".join(groups(suffix, seconds).read_bytes() for seconds in JOINED[joined])
    whole = load(data, num_frames=1000)
    assert zoo.indices_of(whole.frames) == [*range(40), *range(40)]
    assert np.allclose(whole.timestamps, np.arange(80) / zoo.RATE, atol=2e-3)
    assert whole.duration == pytest.approx(80 / zoo.RATE, abs=0.01)
    assert whole.source_fps == pytest.approx(zoo.RATE, rel=0.01)
    assert whole.damage is None
    by_time = load(data, fps=zoo.RATE / 10)
    assert zoo.indices_of(by_time.frames) == [0, 10, 20, 30] * 2
    assert zoo.indices_of(load(data, num_frames=3).frames) == [0, 39, 39]


@pytest.mark.parametrize("suffix", ["flv", "mkv"])
@pytest.mark.parametrize("first", [0, 1000])
def test_a_container_whose_body_comes_again(suffix: str, first: int, groups) -> None:
    head = len(b"FLV\1\1\0\0\0\x09\0\0\0\0") if suffix == "flv" else 0
    data = groups(suffix, first).read_bytes() + groups(suffix).read_bytes()[head:]
    whole = load(data, num_frames=1000)
    assert zoo.indices_of(whole.frames) == [*range(40), *range(40)]
    assert np.allclose(whole.timestamps, np.arange(80) / zoo.RATE, atol=3e-3)
    assert whole.damage is None


@pytest.mark.parametrize("suffix", ["ts", "mkv", "mp4", "flv", "nut"])
@pytest.mark.parametrize("seconds", [4000, 80000])
def test_a_jump_of_hours_is_no_time_that_passed(suffix: str, seconds: int, groups) -> None:
    video = load(groups(suffix, seconds, start=20), num_frames=1000)
    assert zoo.indices_of(video.frames) == list(range(40))
    assert np.allclose(video.timestamps, np.arange(40) / zoo.RATE, atol=3e-3)
    assert video.duration == pytest.approx(40 / zoo.RATE, abs=3e-3)
    assert zoo.indices_of(load(groups(suffix, seconds, start=20), fps=3).frames) == [0, 10, 20, 30]


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "flv", "nut"])
@pytest.mark.parametrize("seconds", [20, 60, 1800])
def test_a_still_that_is_shown_for_long_is_real(suffix: str, seconds: int, groups) -> None:
    video = load(groups(suffix, seconds, start=20), num_frames=1000)
    times = np.arange(40) / zoo.RATE + np.where(np.arange(40) < 20, 0, seconds)
    assert np.allclose(video.timestamps, times, atol=3e-3)
    assert video.duration == pytest.approx(40 / zoo.RATE + seconds, abs=3e-3)
    assert video.damage is None


def test_a_broadcast_with_a_hole(groups) -> None:
    """A transport stream tells the time every 0.7 s: what is missing for long was not received, or is another clock."""
    short, long = (load(groups("ts", seconds, start=20), num_frames=1000) for seconds in (5, 60))
    assert short.duration == pytest.approx(40 / zoo.RATE + 5)
    assert long.duration == pytest.approx(40 / zoo.RATE)


@pytest.mark.parametrize("suffix", ["ts", "mkv"])
def test_time_lapse_is_no_jump(suffix: str, tmp_path: Path) -> None:
    hours = [7_200_000 * place for place in range(6)]
    path = zoo.write(tmp_path / f"lapse.{suffix}", 6, ticks=hours, options={"x264-params": "keyint=2:bframes=0:qp=20"})
    assert load(path).timestamps.tolist() == [7200.0 * place for place in range(6)]


def test_a_counter_that_wraps(groups) -> None:
    video = load(groups("ts", Fraction(2**33, 90000) - 1), num_frames=1000)
    assert zoo.indices_of(video.frames) == list(range(40))
    assert np.allclose(video.timestamps, np.arange(40) / zoo.RATE)
    assert video.damage is None


class TwoFramesASecond:
    """What `processor_sampling` needs to know of a video processor."""

    num_frames, fps, temporal_patch_size = None, None, 1

    def sample_frames(self, metadata, num_frames=None, fps=None):
        return np.arange(0, metadata.total_num_frames, metadata.fps / fps).astype(int)


def test_a_models_own_rule_is_told_the_real_length(groups) -> None:
    data = groups("ts", 1000).read_bytes() + groups("ts").read_bytes()
    video = load(data, choose=processor_sampling(TwoFramesASecond(), fps=2))
    assert zoo.indices_of(video.frames) == [0, 15, 30, 5, 20, 35]
    assert np.allclose(video.timestamps, np.arange(6) / 2, atol=2e-3)
