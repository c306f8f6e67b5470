"""Decoders side by side: the same frames and the same words about damage as from one alone, whoever is first."""

from __future__ import annotations

import gzip
import io
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import video_zoo as zoo
from specvlm.errors import VideoError
from specvlm.pocket import demo_video
from specvlm.video import Video, load
from specvlm.video.backends import pyav
from specvlm.video.files.shares import Crew
from specvlm.video.loading import load_before
from specvlm.video.sampling import Sampling
from specvlm.video.screening.screening import Reel, Screening, Void

NUM_FRAMES = 200
X264 = {"x264-params": "keyint=10:scenecut=0:bframes=2:qp=20"}
X265 = "log-level=error:keyint=10:scenecut=0:bframes=3"
FILMS: dict[str, dict[str, Any]] = {
    "x264.mp4": {"options": X264},
    "x264.mkv": {"options": X264},
    "x264.ts": {"options": X264},
    "x265.mp4": {"codec": "libx265", "options": {"x265-params": X265 + ":open-gop=0"}},
    "x265 open.mkv": {"codec": "libx265", "options": {"x265-params": X265 + ":open-gop=1"}},
    "vp8.webm": {"codec": "libvpx", "options": {"g": "10", "auto-alt-ref": "1", "lag-in-frames": "8"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"g": "10", "deadline": "realtime", "cpu-used": "8"}},
    "av1.mp4": {"codec": "libsvtav1", "options": {"svtav1-params": "keyint=10"}},
    "mpeg2.mkv": {"codec": "mpeg2video", "options": {"g": "10", "bf": "2"}},
    "mpeg4.mp4": {"codec": "mpeg4", "options": {"g": "10", "bf": "2"}},
    "mjpeg.mkv": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "deep.mkv": {"options": X264, "pix_fmt": "yuv420p10le"},
}


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("side by side")

    def made(name: str) -> Path:
        path = folder / name
        return path if path.exists() else zoo.write(path, NUM_FRAMES, **FILMS[name])

    return made


@pytest.fixture
def teams(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """As on three cores. For each time that several decoders set out, whether they came back with the frames."""
    came_back: list[bool] = []
    decode = pyav._decode_side_by_side

    def watched(*arguments: Any) -> Any:
        came_back.append(False)
        came_back[-1] = decode(*arguments)
        return came_back[-1]

    monkeypatch.setattr(pyav, "_decode_side_by_side", watched)
    monkeypatch.setattr(pyav, "cores", lambda: 3)
    return came_back


def alone(source: Any, monkeypatch: pytest.MonkeyPatch, num_frames: int) -> Any:
    with monkeypatch.context() as patch:
        patch.setattr(pyav, "cores", lambda: 1)
        return load(source, num_frames=num_frames, backend="pyav")


@pytest.mark.part(2)
@pytest.mark.parametrize("num_frames", [20, 64, NUM_FRAMES])
@pytest.mark.parametrize("name", FILMS)
def test_frames_are_those_of_a_decode_from_start_to_end(name: str, num_frames: int, film, teams: list[bool]) -> None:
    right, seconds = zoo.decode_all(film(name))
    assert len(right) == NUM_FRAMES
    video = load(film(name), num_frames=num_frames, backend="pyav")
    assert teams == [True] * (num_frames > 20 or name != "mjpeg.mkv")  # of which 20 frames are 20 packets
    assert np.array_equal(video.frames, right[video.indices])
    assert np.allclose(video.timestamps, seconds[video.indices], atol=1e-6)
    assert video.damage is None


@pytest.mark.parametrize("name", FILMS)
def test_an_audience_is_shown_what_several_decode(name: str, film, teams: list[bool]) -> None:
    right, _ = zoo.decode_all(film(name))
    with Screening(partial(load_before, source=film(name), choose=Sampling(num_frames=64).choose)) as screening:
        clip = screening.opening()
        assert isinstance(clip, Reel)
        assert np.array_equal(list(screening.frames()), right[clip.outline.indices])
    assert teams == [True]


def test_one_that_gives_up_lets_the_others_go(film, teams: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """The first share comes to nothing, and so do those who wait for its frames to be taken."""
    path, decode_run = film("x264.mp4"), pyav._decode_run

    def failing(reading: Any, stream: Any, packets: Any, run: range, *more: Any) -> bool:
        return run.start > 0 and decode_run(reading, stream, packets, run, *more)

    monkeypatch.setattr(pyav, "_decode_run", failing)
    load_all = partial(load_before, source=path, choose=Sampling(num_frames=NUM_FRAMES).choose, backend="pyav")
    with Screening(load_all) as screening:
        try:
            clip = screening.opening()
            frames = clip.frames if isinstance(clip, Video) else list(screening.frames())
        except Void as void:
            frames = void.video.frames
    assert np.array_equal(frames, zoo.decode_all(path)[0])
    assert teams[0] is False


def test_bytes_and_open_files_are_read_by_several_at_once(film, teams: list[bool]) -> None:
    path = film("x264.mp4")
    expected = load(path, num_frames=64, backend="pyav").frames
    with path.open("rb") as file:
        file.seek(7)
        for source in (path.read_bytes(), io.BytesIO(path.read_bytes()), file):
            assert np.array_equal(load(source, num_frames=64, backend="pyav").frames, expected)
        assert file.tell() == 7
    assert teams == [True] * 4


def test_what_is_unpacked_as_it_is_read_is_read_in_order(film, tmp_path: Path, teams: list[bool]) -> None:
    path = film("x264.mp4")
    (tmp_path / "film.gz").write_bytes(gzip.compress(path.read_bytes()))
    with gzip.open(tmp_path / "film.gz") as file:
        video = load(file, num_frames=64, backend="pyav")
    assert teams == []
    assert zoo.indices_of(video.frames) == zoo.indices_of(load(path, num_frames=64).frames)


def test_on_one_core_nobody_has_company(film, monkeypatch, teams: list[bool]) -> None:
    alone(film("x264.mp4"), monkeypatch, 64)
    assert teams == []


@pytest.mark.parametrize("ordinal", [5, 95, 150, 199])
@pytest.mark.parametrize("name", ["x264.mp4", "x264.ts", "x265.mp4", "mpeg4.mp4"])
def test_damage_is_said_as_by_one_alone(name: str, ordinal: int, film, tmp_path: Path, monkeypatch, teams) -> None:
    def break_it(place: int, data: bytes) -> bytes | None:
        return data[: len(data) // 2] + bytes(len(data) - len(data) // 2) if place == ordinal else None

    path = zoo.remux(film(name), tmp_path / name, break_it)
    one, several = alone(path, monkeypatch, NUM_FRAMES), load(path, num_frames=NUM_FRAMES, backend="pyav")
    assert len(teams) == 1
    assert one.damage == several.damage
    assert "can't be decoded" in (one.damage or "") or not name.startswith("x264")
    assert np.array_equal(one.indices, several.indices)
    assert np.array_equal(one.frames, several.frames)


def test_of_frames_that_change_their_size_the_first_decides(tmp_path: Path, monkeypatch, teams: list[bool]) -> None:
    parts, in_order = [], {"x264-params": "keyint=10:scenecut=0:bframes=0:qp=20"}
    for place, size in enumerate([(64, 48), (128, 96)]):
        part = zoo.write(tmp_path / f"{place}.h264", 100, options=in_order, size=size, format="h264")
        parts.append(part.read_bytes())
    (tmp_path / "both.h264").write_bytes(b"".join(parts))
    path = tmp_path / "both.ts"
    with av.open(str(tmp_path / "both.h264")) as reader, av.open(str(path), "w") as writer:
        stream = reader.streams.video[0]
        copy = writer.add_stream_from_template(stream)
        for place, packet in enumerate(packet for packet in reader.demux(stream) if packet.size):
            fresh = av.Packet(bytes(packet))
            fresh.pts = fresh.dts = 3000 * place
            fresh.time_base, fresh.is_keyframe, fresh.stream = copy.time_base, packet.is_keyframe, copy
            writer.mux(fresh)
    one, several = alone(path, monkeypatch, 64), load(path, num_frames=64, backend="pyav")
    assert teams == [False]
    assert one.frames.shape == (64, 48, 64, 3)
    assert np.array_equal(one.frames, several.frames)


class Failing(io.BytesIO):
    """A file that can't be read any more once several threads read it."""

    def read(self, size: int | None = -1, /) -> bytes:
        if threading.current_thread() is not threading.main_thread():
            raise OSError(5, "the cable was pulled")
        return super().read(size)


def test_an_error_in_one_ends_all(film, teams: list[bool]) -> None:
    before = threading.active_count()
    with pytest.raises(VideoError, match="the cable was pulled"):
        load(Failing(film("x264.mp4").read_bytes()), num_frames=64, backend="pyav")
    assert teams == [False]
    assert threading.active_count() == before


SINGLE_STRETCHES: dict[str, dict] = {
    "x264.mkv": {"options": {"x264-params": "keyint=250:scenecut=0:bframes=3:qp=20"}},
    "mpeg4.mkv": {"codec": "mpeg4", "options": {"g": "250", "bf": "2"}},
}


@pytest.mark.parametrize("name", SINGLE_STRETCHES)
def test_several_threads_tell_of_what_one_tells(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg's threads for slices of H.264 tell of none of these."""
    sound = zoo.write(tmp_path / name, **SINGLE_STRETCHES[name], num_frames=60, size=(320, 240))
    spoiled = [zoo.remux(sound, tmp_path / f"{place} {name}", zoo.garbled([place])) for place in (13, 31, 59)]
    found = {}
    for num_threads in (1, 4):
        monkeypatch.setattr(pyav, "crew", lambda *_, threads=num_threads: Crew(1, threads))
        assert load(sound, num_frames=60).damage is None
        found[num_threads] = [load(path, num_frames=60) for path in spoiled]
    for one, four in zip(*found.values(), strict=True):
        assert one.damage == four.damage
        assert "can't be decoded" in (one.damage or "")
        assert np.array_equal(one.frames, four.frames)


@pytest.mark.parametrize("name", ["x264.mp4", "x264 open.mkv"])
def test_frames_behind_an_open_gop_are_read_where_they_stand(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads for pictures fail at all that can't be decoded. There they would, and read all of the file again."""
    params = f"keyint=24:scenecut=0:bframes=3:b-pyramid=none:qp=24:open-gop={int('open' in name)}"
    path = zoo.write(tmp_path / name, num_frames=120, options={"x264-params": params})
    decoded: list[int] = []
    run_of = pyav._decode_run

    def watched(reading: Any, stream: Any, packets: Any, run: range, *more: Any) -> bool:
        decoded.append(run.start)
        return run_of(reading, stream, packets, run, *more)

    monkeypatch.setattr(pyav, "_decode_run", watched)
    monkeypatch.setattr(pyav, "crew", lambda *_: Crew(1, 4))
    shown = load(path, choose=lambda _: np.array([5, 55, 105]))
    assert len(decoded) == 3
    assert 0 not in decoded[1:]
    assert np.array_equal(shown.frames, zoo.decode_all(path)[0][[5, 55, 105]])


def test_damage_is_told_each_time_however_busy_the_machine_is(tmp_path: Path) -> None:
    """With a thread for each picture it went untold now and then, in one of six readings on a busy machine: until they
    were to fail at it."""
    sound = demo_video(tmp_path / "sound.mp4")

    spoiled = zoo.remux(sound, tmp_path / "spoiled.mp4", zoo.garbled([40]))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: load(spoiled, num_frames=32), range(24)))
    [told] = {video.damage for video in found}
    assert told is not None
    assert "can't be decoded" in told
    assert len({video.frames.tobytes() for video in found}) == 1
