"""Reading videos: the right frames at the right times, from whatever they come in, and clear words when they don't."""

from __future__ import annotations

import dataclasses
import io
import os
import random
import struct
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

import video_zoo as zoo
from specvlm.errors import OptionError, SpecVLMError, VideoError
from specvlm.video import DEFAULT_NUM_FRAMES, Video, load
from specvlm.video.backends import pyav, torchcodec
from specvlm.video.files import packets
from specvlm.video.files.packets import Packet, Scan, entries, hide_unreachable, plan, presentation
from specvlm.video.sampling import Sampling, Timeline, nearest, require_count, require_rate, uniform


@pytest.fixture(scope="module", autouse=True)
def only_pyav() -> Iterator[None]:
    """What PyAV does is tried here, wherever the tests run; `video/test_backends.py` tries what torchcodec adds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torchcodec, "decoder_class", lambda: None)
        yield


# --- which frames: pure arithmetic ------------------------------------------------------------------------------------


@given(st.integers(1, 5000), st.integers(1, 200))
def test_uniform_spreads_frames_as_llava_does(total: int, count: int) -> None:
    chosen = uniform(total, count)
    assert len(chosen) == min(count, total)
    assert chosen[0] == 0
    assert (np.diff(chosen) > 0).all()
    if len(chosen) > 1:
        assert chosen[-1] == total - 1
        exact = [Fraction(i * (total - 1), len(chosen) - 1) for i in range(len(chosen))]
        # Rounded down; where the exact place is a whole number, floating point may fall just below it, as in numpy.
        assert all(0 <= place - index < 1 or place - index == 1 for place, index in zip(exact, chosen, strict=True))
    assert chosen.tolist() == np.linspace(0, total - 1, min(count, total), dtype=int).tolist()


def nearest_by_search(ticks: list[int], fps: Fraction, duration: int) -> list[int]:
    """The definition: for each instant the frame whose time is nearest, the earlier of two."""
    chosen, k = set(), 0
    while k == 0 or k / fps < duration:
        chosen.add(min(range(len(ticks)), key=lambda i: (abs(ticks[i] - k / fps), i)))
        k += 1
    return sorted(chosen)


@given(
    st.sets(st.integers(1, 60), max_size=12).map(lambda ticks: [0, *sorted(ticks)]),
    st.builds(Fraction, st.integers(1, 40), st.integers(1, 20)),
    st.integers(1, 20),
)
def test_nearest_finds_the_frame_nearest_to_each_instant(ticks: list[int], fps: Fraction, rest: int) -> None:
    duration = ticks[-1] + rest
    chosen = nearest(np.array(ticks, np.float64), float(fps), float(duration))
    assert chosen.tolist() == nearest_by_search(ticks, fps, duration)


def test_nearest_at_its_edges() -> None:
    seconds = np.arange(30) / 30
    assert nearest(seconds, 1, 1.0).tolist() == [0]  # the instant 1 s is past the end
    assert nearest(seconds, 1, None).tolist() == [0]
    assert nearest(np.arange(31) / 30, 1, None).tolist() == [0, 30]  # the end unknown: up to the last frame
    assert nearest(seconds, 30000 / 1001, 1.0).tolist() == list(range(30))
    assert nearest(seconds, 1e300, 1.0).tolist() == list(range(30))
    assert nearest(seconds, 1e-300, 1.0).tolist() == [0]
    assert nearest(seconds[:1], 5, None).tolist() == [0]
    assert nearest(seconds[:0], 5, None).tolist() == []
    assert nearest(seconds + 7, 10, None).tolist() == list(range(0, 30, 3))  # cut out of a longer video


def test_max_frames_bounds_either_choice() -> None:
    line = Timeline.regular(300, 30.0)
    assert Sampling(num_frames=64, max_frames=16).choose(line).tolist() == uniform(300, 16).tolist()
    assert Sampling(num_frames=8, max_frames=16).choose(line).tolist() == uniform(300, 8).tolist()
    assert Sampling(max_frames=5).choose(line).tolist() == uniform(300, 5).tolist()
    assert Sampling(fps=1, max_frames=4).choose(line).tolist() == [0, 90, 180, 270]
    assert Sampling(fps=1, max_frames=40).choose(line).tolist() == list(range(0, 300, 30))
    assert Sampling().choose(line).tolist() == list(range(300))


@pytest.mark.parametrize(
    "options",
    [
        {"num_frames": 8, "fps": 1.0},
        {"num_frames": 0},
        {"num_frames": -3},
        {"num_frames": True},
        {"max_frames": 0},
        {"fps": 0},
        {"fps": -1.0},
        {"fps": float("nan")},
        {"fps": float("inf")},
        {"source_fps": 0},
    ],
)
def test_options_out_of_range_are_refused_before_the_source_is_looked_at(options: dict) -> None:
    with pytest.raises(OptionError) as caught:
        load("no such file", **options)
    assert all(name in str(caught.value) for name in options)


@pytest.mark.parametrize("value", [2.5, "2", [3], True, np.float64(3)])
def test_counts_are_whole_numbers(value: object) -> None:
    require_count("num_frames", np.int32(3))
    with pytest.raises(OptionError, match="num_frames must be a whole number of at least 1, not"):
        require_count("num_frames", value)


@pytest.mark.parametrize("value", ["2", [3], True, 1j, np.nan])
def test_rates_are_positive_numbers(value: object) -> None:
    require_rate("fps", np.float32(3))
    require_rate("fps", Fraction(1, 3))
    with pytest.raises(OptionError, match="fps must be a positive number of frames a second, not"):
        require_rate("fps", value)


# --- which packets: pure planning -------------------------------------------------------------------------------------


@st.composite
def streams(draw: st.DrawFn) -> list[Packet]:
    """Groups of pictures in decode order: a keyframe, perhaps leading frames (open GOP), then Ps each before its Bs."""
    coded, tick, dts = [], 0, 0
    for number in range(draw(st.integers(1, 6))):
        num_leading = draw(st.integers(0, 3)) if number else 0
        shown = [(tick + num_leading, True), *((tick + i, False) for i in range(num_leading))]
        tick += num_leading + 1
        for _ in range(draw(st.integers(0, 4))):
            num_b = draw(st.integers(0, 3))
            shown += [(tick + num_b, False), *((tick + i, False) for i in range(num_b))]
            tick += num_b + 1
        for pts, is_key in shown:
            coded.append(Packet(pts, dts, size=1, duration=1, is_key=is_key))
            dts += 1
    return coded


@given(streams(), st.data())
def test_a_plan_reaches_every_wanted_frame_from_a_keyframe(coded: list[Packet], data: st.DataObject) -> None:
    wanted = data.draw(st.sets(st.sampled_from([packet.pts for packet in coded]), min_size=1))
    cost = data.draw(st.integers(0, 4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packets, "SEEK_COST", cost)
        runs = plan(coded, wanted, entries(coded))
    reached = set()
    for run in runs:
        assert run.start == 0 or coded[run.start].is_key
        # Decoding from a keyframe yields what is shown from that keyframe on, and garbage before.
        first = 0 if run.start == 0 else coded[run.start].pts
        reached |= {packet.pts for packet in coded[run.start : run.stop] if packet.pts >= first}
        assert coded[run.stop - 1].pts in wanted  # and not a packet further
    assert wanted <= reached
    assert all(left.stop + cost < right.start for left, right in pairwise(runs))
    straight = plan(coded, wanted, [])
    assert len(straight) == 1
    assert sum(map(len, runs)) <= len(straight[0])


@given(streams())
def test_decoding_may_start_only_where_nothing_later_came_before(coded: list[Packet]) -> None:
    for entry in entries(coded):
        assert all(packet.pts < coded[entry].pts for packet in coded[:entry])


def test_a_keyframe_shown_before_an_earlier_packet_is_no_entry() -> None:
    ticks = [0, 2, 9, 5, 6]
    coded = [Packet(tick, None, 1, is_key=tick in (0, 5)) for tick in ticks]
    assert entries(coded) == []
    coded[2] = coded[2]._replace(pts=3)
    assert entries(coded) == [3]


def scan_of(*coded: Packet) -> Scan:
    return Scan(coded, Fraction(1, 30))


def test_packets_are_believed_only_if_each_has_a_time_of_its_own() -> None:
    key, rest = Packet(0, 0, 1, is_key=True), Packet(1, 1, 1)
    assert scan_of(key, rest).tells_frames
    assert not scan_of().tells_frames
    assert not scan_of(key._replace(is_key=False), rest).tells_frames
    assert not scan_of(key, rest._replace(pts=None)).tells_frames
    assert not scan_of(key, rest._replace(pts=0)).tells_frames
    assert not scan_of(key, rest._replace(dts=-1)).tells_frames
    assert not scan_of(key, rest._replace(pts=2**60)).tells_frames


def test_frames_before_the_first_keyframe_are_not_shown() -> None:
    coded = [Packet(5, 0, 1), Packet(9, 1, 1, is_key=True), Packet(7, 2, 1), Packet(10, 3, 1)]
    assert [packet.is_shown for packet in hide_unreachable(coded)] == [False, True, False, True]
    assert scan_of(*hide_unreachable(coded)).timeline().seconds.tolist() == [0, 1 / 30]


def test_decoded_frames_are_put_in_order_of_presentation() -> None:
    assert presentation([10, 20, 40], 5) == ([0, 1, 2], [10, 20, 40])
    assert presentation([10, 40, 20], 5) == ([0, 2, 1], [10, 20, 40])  # after a lost frame
    assert presentation([None, None, None], 5) == ([0, 1, 2], [0, 5, 10])
    assert presentation([10, None, 20, 20, 12], 5) == ([0, 1, 2, 3, 4], [10, 15, 20, 25, 30])
    assert presentation([0, 2**60, 3], 5) == ([0, 1, 2], [0, 5, 10])
    assert presentation([], 5) == ([], [])


# --- files: the same frames as a decode from start to end -------------------------------------------------------------


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The file of that name from the zoo, made when first asked for."""
    folder = tmp_path_factory.mktemp("videos")

    def make(name: str) -> Path:
        return zoo.make(folder, name)

    return make


@pytest.fixture
def seeks(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each seek of the test reached its goal; with seeks made attractive."""
    made: list[bool] = []
    seek = pyav._seek

    def counting(*arguments):
        packets = seek(*arguments)
        made.append(packets is not None)
        return packets

    monkeypatch.setattr(packets, "SEEK_COST", 0)
    monkeypatch.setattr(pyav, "_seek", counting)
    return made


@pytest.mark.parametrize("name", zoo.FILES)
def test_frames_are_those_of_a_decode_from_start_to_end(name: str, files, seeks: list[bool]) -> None:
    path = files(name)
    frames, seconds = zoo.decode_all(path)
    assert zoo.indices_of(frames) == list(range(len(frames)))
    for num_frames in (1, 2, 3, 5, 1000):
        video = load(path, num_frames=num_frames)
        chosen = uniform(len(frames), num_frames)
        assert zoo.indices_of(video.frames) == chosen.tolist()
        assert np.array_equal(video.frames, frames[chosen])
        assert video.damage is None
        if len(seconds):
            assert np.array_equal(video.timestamps, seconds[chosen])
    if name in ("long.mp4", "raw.h264", "moving.gif"):
        assert not seeks  # one keyframe, or nothing that tells of any
    else:
        assert any(seeks) or (seeks and name == "program.mpg")  # whose seeks all go astray


def test_an_unseekable_container_is_read_up_to_the_frames_instead(files, seeks: list[bool], monkeypatch) -> None:
    path = files("groups.mp4")
    frames, _ = zoo.decode_all(path)
    monkeypatch.setattr(pyav, "_seek", lambda *_: None)
    assert np.array_equal(load(path, num_frames=3).frames, frames[[0, 19, 39]])


def test_false_keyframes_are_noticed(files, seeks: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """Sent into the middle of a group of pictures, the decoder makes a mess or nothing; neither may get through."""
    path = files("long.mp4")
    frames, _ = zoo.decode_all(path)
    monkeypatch.setattr(pyav, "entries", lambda coded: list(range(1, len(coded))))
    for num_frames in (2, 3, 7):
        assert np.array_equal(load(path, num_frames=num_frames).frames, frames[uniform(40, num_frames)])
    assert any(seeks)


def test_a_long_file_is_not_decoded_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zoo.write(tmp_path / "long.mp4", 250, options={"x264-params": "keyint=25:scenecut=0:qp=20"})
    decoded: list[object] = []
    decode_packet = pyav._Decoder._decode

    def counting(self, packet):
        decoded.append(packet)
        return decode_packet(self, packet)

    monkeypatch.setattr(pyav._Decoder, "_decode", counting)
    video = load(path, num_frames=4)
    assert zoo.indices_of(video.frames) == [0, 83, 166, 249]
    assert len(decoded) < 80


def test_frames_are_chosen_by_their_times_and_not_by_their_numbers(files) -> None:
    video = load(files("variable.mp4"), fps=2)
    # The instants 0, 0.5, 1, 1.5 and 2 s of a video that counts 20 frames in 2 s, most of them in bursts.
    assert [zoo.VARIABLE[index] for index in zoo.indices_of(video.frames)] == [0, 500, 1000, 1500, 2000]
    assert video.timestamps.tolist() == [0, 0.5, 1, 1.5, 2]
    assert video.fps == 2
    assert zoo.indices_of(video.frames) != list(range(0, 20, 5))  # what counting would choose


def test_what_is_told_about_the_whole_video(files) -> None:
    video = load(files("groups.mp4"), num_frames=3)
    assert video.duration == pytest.approx(40 / 30)
    assert video.source_fps == pytest.approx(30)
    assert video.fps == pytest.approx(2 / (39 / 30))
    assert video.name.endswith("groups.mp4")
    assert load(files("live.mkv"), num_frames=3).duration == pytest.approx(40 / 30, abs=2e-3)
    single = load(files("groups.mp4"), num_frames=1)
    assert single.timestamps.tolist() == [0]
    assert single.fps is None


def test_the_default_is_evenly_spread(files) -> None:
    assert zoo.indices_of(load(files("groups.mp4")).frames) == uniform(40, DEFAULT_NUM_FRAMES).tolist()
    assert len(load(files("groups.mp4"), max_frames=7).frames) == 7


def test_a_frame_count_that_lies_is_not_believed(files, tmp_path: Path) -> None:
    data = bytearray(files("xvid.avi").read_bytes())
    for count_at in (data.index(b"avih") + 8 + 16, data.index(b"strh") + 8 + 32):
        assert struct.unpack_from("<I", data, count_at) == (40,)
        struct.pack_into("<I", data, count_at, 9999)
    assert zoo.indices_of(load(bytes(data), num_frames=3).frames) == [0, 19, 39]


def test_what_an_edit_list_cuts_off_is_not_shown(files) -> None:
    data = bytearray(files("groups.mp4").read_bytes())
    entry = data.index(b"elst") + 12  # after version, flags and count: duration, media time, rate
    (media_time,) = struct.unpack_from(">I", data, entry + 4)
    struct.pack_into(">I", data, entry + 4, media_time + 12 * 512)
    video = load(bytes(data), num_frames=1000)
    assert zoo.indices_of(video.frames) == list(range(12, 40))
    assert video.timestamps[0] == 0
    assert zoo.indices_of(load(bytes(data), num_frames=2).frames) == [12, 39]


def test_packets_that_are_only_referred_to_are_not_counted_as_frames(files, tmp_path: Path) -> None:
    def hide(ordinal: int, data: bytes) -> bytes | None:
        return bytes([data[0] & ~16]) + data[1:] if ordinal in (7, 23) else None

    path = zoo.remux(files("vp8.webm"), tmp_path / "hidden.webm", hide)
    frames, _ = zoo.decode_all(path)
    assert len(frames) == 38
    for num_frames in (5, 1000):
        assert np.array_equal(load(path, num_frames=num_frames).frames, frames[uniform(38, num_frames)])


def test_a_recording_that_starts_between_keyframes(files) -> None:
    data = files("groups.ts").read_bytes()
    start = len(data) // 3 // 188 * 188
    video = load(data[:376] + data[start:], num_frames=1000)  # its tables, then from the middle of a group
    indices = zoo.indices_of(video.frames)
    assert indices == list(range(indices[0], 40))
    assert 0 < indices[0] < 39
    assert indices[0] % 10 == 0
    assert video.timestamps[0] == 0
    assert "before any keyframe" in video.damage


# --- pixels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("swaps", [False, True])
@pytest.mark.parametrize("across", [1, -1])
@pytest.mark.parametrize("down", [1, -1])
def test_frames_stand_upright(swaps: bool, across: int, down: int, files) -> None:
    matrix = (0, down, across, 0) if swaps else (across, 0, 0, down)
    a, b, c, d = matrix
    stored, _ = zoo.decode_all(files("groups.mp4"))
    y, x = np.mgrid[: stored.shape[1], : stored.shape[2]]
    shown_x, shown_y = a * x + c * y, b * x + d * y
    expected = np.zeros((len(stored), np.ptp(shown_y) + 1, np.ptp(shown_x) + 1, 3), np.uint8)
    expected[:, shown_y - shown_y.min(), shown_x - shown_x.min()] = stored
    video = load(zoo.turn(files("groups.mp4").read_bytes(), matrix), num_frames=1000)
    assert np.array_equal(video.frames, expected)


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "size"),
    [
        ("libx264", "gray", (64, 48)),
        ("libx264", "yuv444p", (63, 47)),
        ("libx264", "yuv420p10le", (64, 48)),
        ("ffv1", "yuv420p", (63, 47)),
        ("ffv1", "bgr0", (63, 47)),
        ("ffv1", "gray16le", (64, 48)),
        ("ffv1", "yuv422p12le", (64, 48)),
        ("png", "rgba", (63, 47)),
    ],
)
def test_pixel_formats_become_rgb(codec: str, pix_fmt: str, size: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / ("pixels.mov" if codec == "png" else "pixels.mkv")
    video = load(zoo.write(path, 6, codec=codec, pix_fmt=pix_fmt, size=size))
    assert video.frames.shape == (6, size[1], size[0], 3)
    assert video.frames.dtype == np.uint8
    assert zoo.indices_of(video.frames) == list(range(6))
    if pix_fmt in ("bgr0", "rgba"):
        assert np.array_equal(video.frames, [zoo.picture(index, *size) for index in range(6)])


def test_the_stated_colour_matrix_and_range_are_used(tmp_path: Path) -> None:
    colour = np.full((48, 64, 3), (200, 40, 90), np.uint8)
    for name, fields in {"wide.mp4": {"colorspace": 1, "color_range": 1}, "full.mp4": {"color_range": 2}}.items():
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream("libx264", rate=30, options={"qp": "1"})
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for field, value in fields.items():
                setattr(stream.codec_context, field, value)
            frame = av.VideoFrame.from_ndarray(colour, format="rgb24").reformat(
                format="yuv420p", dst_colorspace=fields.get("colorspace"), dst_color_range=fields["color_range"]
            )
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
        assert np.abs(load(tmp_path / name).frames[0].astype(int) - colour).max() <= 3


# --- sources ----------------------------------------------------------------------------------------------------------


def test_a_file_by_any_door_is_the_same_video(files) -> None:
    path = files("groups.mp4")
    expected = load(path, num_frames=5)
    data = path.read_bytes()
    for source in (str(path), data, bytearray(data), memoryview(data), io.BytesIO(data)):
        video = load(source, num_frames=5)
        assert np.array_equal(video.frames, expected.frames)
        assert np.array_equal(video.timestamps, expected.timestamps)


def test_the_content_decides_and_not_the_name(files, tmp_path: Path) -> None:
    path = tmp_path / "tricky: 100% #1 \N{SNOWMAN}.txt"
    path.write_bytes(files("groups.mp4").read_bytes())
    assert len(load(path, num_frames=5).frames) == 5


def test_an_open_file_is_left_as_it_was_found(files) -> None:
    with files("groups.mp4").open("rb") as file:
        file.seek(17)
        video = load(file, num_frames=5)
        assert not file.closed
        assert file.tell() == 17
        assert video.name == file.name
    broken = io.BytesIO(b"\0" * 100)
    broken.seek(9)
    with pytest.raises(VideoError):
        load(broken)
    assert broken.tell() == 9


def test_a_pipe_can_be_read(files) -> None:
    data = files("groups.mp4").read_bytes()
    read_end, write_end = os.pipe()

    def feed() -> None:
        with os.fdopen(write_end, "wb") as sink:
            sink.write(data)

    feeder = threading.Thread(target=feed)
    feeder.start()
    with os.fdopen(read_end, "rb") as pipe:
        assert zoo.indices_of(load(pipe, num_frames=3).frames) == [0, 19, 39]
    feeder.join()


PICTURES = np.stack([zoo.picture(index) for index in range(12)])


@pytest.mark.parametrize(
    "source",
    [
        PICTURES,
        np.moveaxis(PICTURES, -1, 1),
        PICTURES.astype(np.float32) / 255,
        PICTURES.astype(np.float64) / 255,
        torch.from_numpy(PICTURES),
        torch.from_numpy(PICTURES).permute(0, 3, 1, 2),
        (torch.from_numpy(PICTURES) / 255).requires_grad_(),
        list(PICTURES),
        tuple(torch.from_numpy(PICTURES).permute(0, 3, 1, 2)),
        [Image.fromarray(frame) for frame in PICTURES],
    ],
    ids=["array", "channels first", "float", "double", "tensor", "tensor channels first", "float tensor", "list"]
    + ["tuple of tensors", "images"],
)
def test_frames_in_memory(source) -> None:
    assert np.array_equal(load(source).frames, PICTURES)  # all of them, whatever the default for files
    video = load(source, num_frames=4)
    assert np.array_equal(video.frames, PICTURES[[0, 3, 7, 11]])
    assert (video.timestamps, video.duration, video.source_fps, video.fps) == (None, None, None, None)
    with pytest.raises(OptionError, match="no clock"):
        load(source, fps=1)
    timed = load(source, source_fps=4, fps=1)
    assert np.array_equal(timed.frames, PICTURES[[0, 4, 8]])
    assert timed.timestamps.tolist() == [0, 1, 2]
    assert (timed.duration, timed.source_fps, timed.fps) == (3, 4, 1)


def test_low_precision_floats() -> None:
    video = load(torch.from_numpy(PICTURES).to(torch.bfloat16) / 255)
    assert np.abs(video.frames.astype(int) - PICTURES).max() <= 1


def test_more_frames_than_the_default_are_kept_if_they_are_in_memory() -> None:
    assert len(load(np.zeros((50, 4, 4, 3), np.uint8)).frames) == 50


def test_a_folder_of_pictures_counts_as_people_do(tmp_path: Path) -> None:
    for index in (1, 2, 9, 10, 11, 100):
        Image.fromarray(zoo.picture(index)).save(tmp_path / f"Frame{index}.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "._Frame3.png").write_bytes(b"left by another system")
    assert zoo.indices_of(load(tmp_path).frames) == [1, 2, 9, 10, 11, 100]
    assert zoo.indices_of(load(str(tmp_path), num_frames=2).frames) == [1, 100]
    assert zoo.indices_of(load(tmp_path, fps=1, source_fps=2).frames) == [1, 9, 11]
    assert zoo.indices_of(load([tmp_path / "Frame10.png", str(tmp_path / "Frame2.png")]).frames) == [10, 2]


def test_pictures_of_many_kinds(tmp_path: Path) -> None:
    image = Image.fromarray(zoo.picture(37))
    image.save(tmp_path / "1.bmp")
    image.save(tmp_path / "2.jpg", quality=95)
    image.convert("RGBA").save(tmp_path / "3.png")
    image.convert("L").save(tmp_path / "4.PNG")
    image.convert("P").save(tmp_path / "5.png")
    image.save(tmp_path / "6.webp", lossless=True)
    image.save(tmp_path / "7.tiff")
    image.save(tmp_path / "8.ppm")
    assert zoo.indices_of(load(tmp_path).frames) == [37] * 8


def test_a_video_is_resampled_by_its_own_times(files) -> None:
    video = load(files("variable.mp4"), num_frames=1000)
    assert load(video) is video
    assert zoo.indices_of(load(video, fps=2).frames) == zoo.indices_of(load(files("variable.mp4"), fps=2).frames)
    fewer = load(video, num_frames=3)
    assert zoo.indices_of(fewer.frames) == [0, 9, 19]
    assert fewer.timestamps.tolist() == video.timestamps[[0, 9, 19]].tolist()
    assert (fewer.duration, fewer.source_fps, fewer.name) == (video.duration, video.source_fps, video.name)
    with pytest.raises(OptionError, match="source_fps"):
        load(video, source_fps=3)
    assert load(Video(PICTURES), source_fps=2, fps=1).timestamps.tolist() == [0, 1, 2, 3, 4, 5]


def test_a_video_can_not_be_changed(files) -> None:
    source = PICTURES.copy()
    video = load(source, source_fps=3)
    with pytest.raises(ValueError, match="read-only"):
        video.frames[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        video.timestamps[0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        video.name = "another"
    source[:] = 0
    assert np.array_equal(video.frames, PICTURES)
    source[0] = 1  # the caller's own array stays writeable


# --- what can't be read -----------------------------------------------------------------------------------------------


def refused(source: object, **options: object) -> str:
    """The message with which `source` is refused: one line."""
    with pytest.raises(VideoError) as caught:
        load(source, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_each_unreadable_file_gets_an_error_of_its_own(files, tmp_path: Path) -> None:
    def spoilt(name: str, data: bytes) -> str:
        (tmp_path / name).write_bytes(data)
        message = refused(tmp_path / name)
        assert name in message
        return message

    groups = files("groups.mp4").read_bytes()
    messages = {
        "there is no file": refused(tmp_path / "missing.mp4"),
        "nothing is fetched from URLs": refused("https://example.org/video.mp4"),
        "is a text file that begins 'version https://git-lfs": spoilt("pointer.mp4", b"version https://git-lfs.."),
        "is empty (0 bytes)": spoilt("empty.mp4", b""),
        "the moov box": spoilt("half.mp4", groups[: len(groups) // 2]),
        "is no video that FFmpeg knows": spoilt("noise.mp4", random.Random(0).randbytes(5000)),
        "holds no video, only audio": refused(zoo.write_audio(tmp_path / "sound.m4a")),
        "holds no frames": refused(zoo.write(tmp_path / "none.avi", 0, codec="mpeg4")),
        "a folder without pictures": refused(tmp_path),
        "neither a file nor a folder": refused(os.devnull),
        "object of type int": refused(7),
        "object of type NoneType": refused(None),
        "none of the 40 frames": spoilt("blank.avi", blanked(files("motion.avi").read_bytes())),
    }
    assert [words for words, message in messages.items() if words not in message] == []
    assert "holds no video, only audio" in refused(zoo.write_audio(tmp_path / "music.mp3", cover=True))


def blanked(avi: bytes) -> bytes:
    """The same AVI file with every picture in it overwritten."""
    data = bytearray(avi)
    position = data.index(b"movi") + 4
    while data[position : position + 4] == b"00dc":
        (size,) = struct.unpack_from("<I", data, position + 4)
        data[position + 8 : position + 8 + size] = b"\x55" * size
        position += 8 + size + size % 2
    return bytes(data)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (b"", "is empty"),
        (io.StringIO("text"), "mode 'rb'"),
        ([], "holds no frames"),
        (np.zeros((0, 4, 4, 3), np.uint8), "holds no frames"),
        (np.zeros((2, 0, 4, 3), np.uint8), "holds no frames"),
        (np.zeros((4, 4, 3), np.uint8), "expected [T, H, W, 3]"),
        (np.zeros((2, 4, 4, 4), np.uint8), "expected [T, H, W, 3]"),
        (torch.zeros(2, 1, 4, 4), "expected [T, H, W, 3]"),
        (np.zeros((2, 4, 4, 3), np.int64), "holds int64"),
        (np.zeros((2, 4, 4, 3), bool), "holds bool"),
        (np.full((2, 4, 4, 3), 255.0), "from 255 to 255: expected 0 to 1"),
        (np.full((2, 4, 4, 3), np.nan), "expected 0 to 1"),
        ([np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8)], "frame 1 is 5 x 4"),
        ([np.zeros((4, 4), np.uint8)], "frame 0 of the list of 1 pictures has shape [4, 4]: expected [H, W, 3]"),
        ([1, 2], "is of type int"),
        (["no such picture.png"], "no such picture.png"),
        ("\0", "there is no file"),
        ("", "there is no file"),
    ],
)
def test_sources_that_hold_no_video(source: object, words: str) -> None:
    assert words in refused(source)


def test_a_closed_file_is_refused() -> None:
    file = io.BytesIO(b"")
    file.close()
    assert "closed" in refused(file)


def test_a_clock_is_not_given_twice(files) -> None:
    with pytest.raises(OptionError, match="source_fps"):
        load(files("groups.mp4"), source_fps=30)


def test_a_folder_of_different_sizes_or_with_a_broken_picture(tmp_path: Path) -> None:
    Image.fromarray(zoo.picture(1)).save(tmp_path / "1.png")
    Image.fromarray(zoo.picture(2, 32, 32)).save(tmp_path / "2.png")
    assert "frame 0 is 64 x 48, frame 1 is 32 x 32" in refused(tmp_path)
    (tmp_path / "2.png").write_bytes(b"no picture")
    assert "2.png is a text file" in refused(tmp_path)


def test_a_playlist_opens_no_other_file(files, tmp_path: Path) -> None:
    segment = files("groups.ts")
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:2.0,\n{segment}\n#EXT-X-ENDLIST\n"
    (tmp_path / "list.m3u8").write_text(playlist)
    for source in (tmp_path / "list.m3u8", playlist.encode(), f"ffconcat version 1.0\nfile {segment}\n".encode()):
        refused(source)
    with av.open(str(tmp_path / "list.m3u8")) as container:  # which FFmpeg by itself would do
        assert container.streams.video


# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["groups.mkv", "vp9.webm", "groups.flv", "fragments.mp4", "fast.mp4", "groups.ts"])
def test_a_truncated_file_is_answered_from_what_is_there(name: str, files, tmp_path: Path) -> None:
    path = (
        zoo.remux(files("groups.mp4"), tmp_path / name, mux={"movflags": "faststart"}) if name == "fast.mp4" else None
    )
    data = (path or files(name)).read_bytes()
    whole = load(data, num_frames=1000)
    for part in (0.5, 0.6, 0.7):
        video = load(data[: int(len(data) * part)], num_frames=1000)
        indices = zoo.indices_of(video.frames)
        # A frame may be missing before the last ones: what it was shown between is stored before it.
        assert 5 < len(indices) < 40
        assert indices == sorted(set(indices))
        assert np.array_equal(video.frames, whole.frames[indices])  # no half frame, no concealed one
        assert np.allclose(video.timestamps, whole.timestamps[indices], atol=2e-3)
        assert name == "groups.ts" or video.damage is not None  # MPEG-TS doesn't say how long it should be
        few = load(data[: int(len(data) * part)], num_frames=3)
        assert zoo.indices_of(few.frames) == [indices[i] for i in uniform(len(indices), 3)]


@pytest.mark.parametrize("name", ["broken.mp4", "broken.mkv"])
@pytest.mark.parametrize("hit", [10, 11, 12, 39])
def test_a_broken_frame_costs_its_group_of_pictures_at_most(name: str, hit: int, files, tmp_path: Path) -> None:
    def break_it(ordinal: int, data: bytes) -> bytes | None:
        return data[: len(data) // 2] + bytes(len(data) - len(data) // 2) if ordinal == hit else None

    path = zoo.remux(files("groups.mp4"), tmp_path / name, break_it)
    sound = load(files("groups.mp4"), num_frames=1000)
    video = load(path, num_frames=1000)
    assert "of its frames can't be decoded" in video.damage
    indices = [round(30 * time) for time in video.timestamps]
    hurt = set(range(hit // 10 * 10, hit // 10 * 10 + 10))
    assert set(range(40)) - hurt < set(indices) < set(range(40))
    unhurt = [row for row, index in enumerate(indices) if index not in hurt]
    assert np.array_equal(video.frames[unhurt], sound.frames[[indices[row] for row in unhurt]])


def test_a_hole_in_the_file(files) -> None:
    data = bytearray(files("groups.mkv").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 600] = bytes(600)
    video = load(bytes(data), num_frames=1000)
    assert video.damage is not None
    assert 10 < len(video.frames) < 40
    assert zoo.indices_of(video.frames[:10]) == list(range(10))
    assert (np.diff(video.timestamps) > 0).all()


def test_a_sound_track_that_is_longer_is_no_damage(tmp_path: Path) -> None:
    video = load(zoo.write(tmp_path / "sound.mkv", audio_seconds=3), num_frames=4)
    assert video.damage is None
    assert video.duration == pytest.approx(40 / 30, abs=2e-3)


@pytest.mark.parametrize(
    "name", ["groups.mp4", "groups.ts", "groups.mkv", "vp9.webm", "xvid.avi", "raw.h264", "moving.gif"]
)
def test_whatever_is_in_a_file_only_our_errors_come_out(name: str, files) -> None:
    sound = files(name).read_bytes()
    dice = random.Random(name)
    outcomes = set()
    for _ in range(24):
        data = bytearray(sound)
        match dice.randrange(4):
            case 0:
                for _ in range(dice.choice([1, 5, 50])):
                    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
            case 1:
                for _ in range(dice.choice([1, 5])):
                    data[dice.randrange(min(600, len(data)))] = dice.randrange(256)
            case 2:
                del data[dice.randrange(len(data)) :]
            case 3:
                start = dice.randrange(len(data))
                data[start : start + 2000] = dice.randbytes(dice.randrange(2000))
        outcome = outcome_of(bytes(data), dice.choice([1, 4, 1000]))
        outcomes.add(type(outcome))
        if isinstance(outcome, str):
            assert "\n" not in outcome
        else:
            assert outcome.timestamps.shape == outcome.frames.shape[:1]
            assert (np.diff(outcome.timestamps) > 0).all()
    assert Video in outcomes


def outcome_of(data: bytes, num_frames: int) -> Video | str:
    """The video, or the message of the error that the library promises. Any other error goes through."""
    try:
        return load(data, num_frames=num_frames)
    except SpecVLMError as error:
        return str(error)


def test_losses_found_in_threads_are_looked_at_again_without(files, monkeypatch: pytest.MonkeyPatch) -> None:
    """In threads, other frames are lost each time: too many for a survey to hold when the frames are picked."""
    made: list[int] = []
    survey = pyav._survey

    def surveying(source, scan, num_threads):
        made.append(num_threads)
        return dataclasses.replace(survey(source, scan, num_threads), num_lost=int(num_threads != 1))

    monkeypatch.setattr(pyav, "_survey", surveying)
    video = load(files("raw.h264"), num_frames=5)
    assert made == [0, 1]
    assert zoo.indices_of(video.frames) == uniform(40, 5).tolist()
    assert video.damage is None


def test_a_stream_that_turns_up_late(files) -> None:
    """PyAV 18.1 raises an IndexError at the end of such a file."""
    data = bytearray(files("groups.ts").read_bytes())
    starts = [at for at in range(0, len(data), 188) if data[at + 1] == 0x41]  # where a frame of the video starts
    assert len(starts) == 40
    for start in starts[10:30]:
        data[start + 1] |= 0x10  # the number of another stream
        video = load(bytes(data), num_frames=1000)
        assert 20 < len(video.frames) < 40
        data[start + 1] &= ~0x10


@given(st.binary(max_size=400))
@example(b"\t" + bytes(23))
def test_random_bytes_are_no_video(data: bytes) -> None:
    """But for those that FFmpeg knows by six bits: a packet of CD+G, 24 bytes, is a black picture of 300 x 216."""
    try:
        video = load(data)
    except VideoError:
        return
    with av.open(io.BytesIO(data)) as container:
        assert container.format.name == "cdg"
    assert video.frames.shape[1:] == (216, 300, 3)


def test_ffmpeg_keeps_quiet(files, capfd: pytest.CaptureFixture) -> None:
    level = av.logging.get_level()
    data = files("groups.mkv").read_bytes()
    load(data[: len(data) // 2])
    refused(data[:40])
    assert capfd.readouterr() == ("", "")
    assert av.logging.get_level() == level
