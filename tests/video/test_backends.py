"""Who decodes: PyAV, or torchcodec where it is asked for and may be trusted; and the same frames from both."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import video_zoo as zoo
from specvlm.errors import OptionError, VideoError
from specvlm.video import load, room
from specvlm.video.backends import torchcodec

SIZES = {
    "odd.mkv": {"num_frames": 6, "codec": "ffv1", "size": (63, 47)},
    "deep.mkv": {"num_frames": 6, "pix_fmt": "yuv420p10le"},
    "gray.mkv": {"num_frames": 6, "pix_fmt": "gray"},
    "narrow.mp4": {"num_frames": 6, "size": (62, 46)},
    "full.mp4": {"num_frames": 6, "color_range": 2},
    "wide.mp4": {"num_frames": 6, "colorspace": 1, "color_range": 1},
    "bframes.m2ts": {"num_frames": 120, "options": {"x264-params": "keyint=30:scenecut=0:bframes=3:qp=24"}},
    "bframes.avi": {"num_frames": 120, "options": {"x264-params": "keyint=30:scenecut=0:bframes=3:qp=24"}},
    "ever_new.mp4": {"num_frames": 120, "size": (176, 144), "options": {"x264-params": "keyint=60:intra-refresh=1"}},
}
ROUNDED = ("odd.mkv", "deep.mkv")
"""In which the two differ by rounding: by up to 12 and 27 of 255 between FFmpeg 5.1 and 8.1, by about 1 on average."""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("videos")

    def make(name: str) -> Path:
        path = folder / name
        if name in zoo.FILES or path.exists():
            return zoo.make(folder, name) if name in zoo.FILES else path
        return zoo.write(path, **SIZES[name])

    return make


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether torchcodec's frames were taken, each time that it was asked for some."""
    taken: list[bool] = []
    read = torchcodec._read

    def watched(*arguments: Any) -> Any:
        frames = read(*arguments)
        taken.append(frames is not None)
        return frames

    monkeypatch.setattr(torchcodec, "_read", watched)
    return taken


# --- whom to believe: with a stand-in for torchcodec ------------------------------------------------------------------


@dataclass
class Understudy:
    """Behaves as torchcodec's decoder, on PyAV's frames, and errs as it is told."""

    source: Any
    stream_index: int
    dimension_order: str
    num_ffmpeg_threads: int
    device: str
    custom_frame_mappings: str

    late: ClassVar[float] = 0
    shift: ClassVar[int] = 0
    brighter: ClassVar[int] = 0
    crop: ClassVar[int] = 0
    error: ClassVar[Exception | None] = None

    def __post_init__(self) -> None:
        assert (self.stream_index, self.dimension_order, self.device) == (0, "NHWC", "cpu")
        assert self.source.tell() == 0
        video = load(self.source, num_frames=1000, backend="pyav")
        self.frames, self.seconds = video.frames, video.timestamps

    def get_frames_at(self, indices: list[int]) -> Any:
        if self.error is not None:
            raise self.error
        pixels = self.frames[np.minimum(np.array(indices) + self.shift, len(self.frames) - 1)].astype(int)
        pixels = (pixels + self.brighter).clip(0, 255).astype(np.uint8)[:, self.crop :]
        seconds = self.seconds[indices] + (self.late if len(indices) > 1 else 0)
        return SimpleNamespace(data=torch.from_numpy(pixels), pts_seconds=torch.from_numpy(seconds))


@pytest.fixture
def understudy(monkeypatch: pytest.MonkeyPatch) -> type[Understudy]:
    role = type("Role", (Understudy,), {})
    monkeypatch.setattr(torchcodec, "decoder_class", lambda: role)
    return role


@pytest.mark.parametrize("name", ["groups.mp4", "open.mp4", "variable.mkv", "hevc.mp4"])
def test_torchcodec_is_used_where_it_is_asked_for(name: str, file, understudy, trusted: list[bool]) -> None:
    expected = load(file(name), num_frames=5, backend="pyav")
    for source in (file(name), file(name).read_bytes(), io.BytesIO(file(name).read_bytes())):
        video = load(source, num_frames=5, backend="torchcodec")
        assert np.array_equal(video.frames, expected.frames)
        assert np.array_equal(video.timestamps, expected.timestamps)
    assert trusted == [True] * 3


@pytest.mark.parametrize("name", zoo.FILES)
def test_by_itself_nobody_asks_it(name: str, file, understudy, trusted: list[bool]) -> None:
    understudy.shift = 1
    expected = load(file(name), num_frames=5, backend="pyav")
    assert np.array_equal(load(file(name), num_frames=5).frames, expected.frames)
    assert trusted == []


@pytest.mark.parametrize("name", ["groups.ts", "open.ts", "program.mpg", "xvid.avi", "motion.avi", "bframes.m2ts"])
def test_where_it_seeks_to_other_frames_it_is_not_even_asked(name: str, file, understudy, trusted: list[bool]) -> None:
    understudy.shift = 1
    expected = load(file(name), num_frames=5, backend="pyav")
    assert np.array_equal(load(file(name), num_frames=5, backend="torchcodec").frames, expected.frames)
    assert trusted == []


def test_pictures_that_differ_by_rounding_are_taken_if_asked_for(file, understudy, trusted: list[bool]) -> None:
    expected = load(file("groups.mp4"), num_frames=5, backend="pyav")
    understudy.brighter = 2
    other = load(file("groups.mp4"), num_frames=5, backend="torchcodec")
    assert trusted == [True]
    assert 0 < np.abs(other.frames.astype(int) - expected.frames).max() <= 2


@pytest.mark.parametrize(
    "fault",
    [
        {"shift": 1},
        {"late": 1 / 30},
        {"brighter": 30},
        {"crop": 2},
        {"error": RuntimeError("no more frames left to decode")},
        {"error": IndexError("out of range")},
    ],
    ids=str,
)
def test_what_is_not_as_promised_is_left_to_pyav(fault, file, understudy, trusted: list[bool]) -> None:
    expected = load(file("groups.mp4"), num_frames=5, backend="pyav")
    for name, value in fault.items():
        setattr(understudy, name, value)
    video = load(file("groups.mp4"), num_frames=5, backend="torchcodec")
    assert trusted == [False]
    assert np.array_equal(video.frames, expected.frames)
    assert video.damage is None


def test_a_file_known_to_be_damaged_is_left_to_pyav(file, understudy, trusted: list[bool]) -> None:
    data = file("groups.mkv").read_bytes()
    data = data[: len(data) // 2]
    understudy.error = AssertionError("asked about a damaged file")
    video = load(data, num_frames=3, backend="torchcodec")
    assert video.damage is not None
    assert trusted == []


def test_a_frame_chosen_twice_is_decoded_once(file, understudy, trusted: list[bool]) -> None:
    video = load(file("groups.mp4"), choose=lambda _: np.array([4, 4, 30]), backend="torchcodec")
    assert zoo.indices_of(video.frames) == [4, 4, 30]
    assert trusted == [True]


def test_large_frames_are_refused_before_torchcodec_sees_them(file, understudy, monkeypatch) -> None:
    monkeypatch.setattr(room, "MAX_PIXELS", 4 * zoo.WIDTH * zoo.HEIGHT)
    with pytest.raises(VideoError, match="5 frames of 64 x 48"):
        load(file("groups.mp4"), num_frames=5, backend="torchcodec")


def test_without_torchcodec_it_is_pyav(file, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchcodec, "decoder_class", lambda: None)
    assert zoo.indices_of(load(file("groups.mp4"), num_frames=2).frames) == [0, 39]
    with pytest.raises(OptionError, match=r"backend='torchcodec' needs torchcodec .* or use 'pyav'"):
        load(file("groups.mp4"), backend="torchcodec")


def test_torchcodec_without_an_ffmpeg_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def importing(module: object) -> Callable[[str], object]:
        def imported(name: str) -> object:
            if isinstance(module, Exception):
                raise module
            return module

        return imported

    decoder = object()
    found = SimpleNamespace(ffmpeg_major_version=7, VideoDecoder=decoder)
    lacking = SimpleNamespace(ffmpeg_major_version=None, VideoDecoder=decoder)
    for module, expected in (
        (found, decoder),
        (lacking, None),
        (ImportError("No module named 'torchcodec'"), None),
        (RuntimeError("Could not load libtorchcodec"), None),  # how versions before 0.16 put it
    ):
        monkeypatch.setattr(torchcodec.importlib, "import_module", importing(module))
        assert torchcodec.decoder_class.__wrapped__() is expected


@pytest.mark.filterwarnings("error")
def test_an_unknown_backend_is_refused_before_the_source_is_looked_at() -> None:
    backend: Any = "decord"
    with pytest.raises((OptionError, TypeError), match="decord"):  # TypeError: from the annotations that tests check
        load("no such file", backend=backend)


# --- the real one, where it is installed ------------------------------------------------------------------------------

installed = pytest.mark.skipif(torchcodec.decoder_class() is None, reason="torchcodec is an optional extra")


@installed
@pytest.mark.parametrize("name", [*zoo.FILES, *SIZES])
def test_frames_are_those_of_pyav_to_the_bit(name: str, file) -> None:
    for num_frames in (1, 2, 3, 5, 1000):
        ours, theirs = (load(file(name), num_frames=num_frames, backend=backend) for backend in ("pyav", "torchcodec"))
        assert np.array_equal(ours.frames, theirs.frames) or name in ROUNDED
        assert np.array_equal(ours.timestamps, theirs.timestamps)
        assert ours.damage == theirs.damage


@installed
@pytest.mark.parametrize("name", ["groups.mp4", "groups.mkv", "open.mp4", "variable.mp4", "hevc.mp4", "vp9.webm"])
def test_the_usual_files_are_really_decoded_by_torchcodec(name: str, file, trusted: list[bool]) -> None:
    load(file(name), num_frames=5, backend="torchcodec")
    assert trusted == [True]


@installed
@pytest.mark.parametrize("name", ROUNDED)
def test_asked_for_torchcodec_rounds_in_its_own_way(name: str, file, trusted: list[bool]) -> None:
    ours, theirs = (load(file(name), backend=backend).frames.astype(int) for backend in ("pyav", "torchcodec"))
    assert trusted == [True]
    assert np.abs(ours - theirs).mean() < torchcodec.SAME_PICTURE
    assert zoo.indices_of(theirs) == zoo.indices_of(ours)


@installed
@pytest.mark.parametrize("name", ["groups.ts", "open.ts", "program.mpg", "xvid.avi", "bframes.m2ts", "bframes.avi"])
def test_files_in_which_it_shows_other_frames_are_left_alone(name: str, file, trusted: list[bool]) -> None:
    right, _ = zoo.decode_all(file(name))
    for backend in ("auto", "torchcodec"):
        assert np.array_equal(load(file(name), num_frames=1000, backend=backend).frames, right)
    assert trusted == []


@installed
def test_turned_and_mirrored_frames_stand_upright(file) -> None:
    data = file("groups.mp4").read_bytes()
    for matrix in ((0, 1, -1, 0), (-1, 0, 0, -1), (-1, 0, 0, 1), (0, 1, 1, 0)):
        turned = zoo.turn(data, matrix)
        ours, theirs = (load(turned, num_frames=5, backend=backend) for backend in ("pyav", "torchcodec"))
        assert np.array_equal(ours.frames, theirs.frames)


@installed
def test_a_frame_damaged_inside_is_noticed_by_pyav_alone(file, tmp_path: Path) -> None:
    """What torchcodec can't do: FFmpeg makes up for the loss, and torchcodec doesn't pass on that it did."""

    def break_it(ordinal: int, data: bytes) -> bytes | None:
        return data[: len(data) // 2] + bytes(len(data) - len(data) // 2) if ordinal == 13 else None

    path = zoo.remux(file("groups.mp4"), tmp_path / "broken.mp4", break_it)
    assert "can't be decoded" in load(path, num_frames=1000, backend="pyav").damage
    made_up = load(path, num_frames=1000, backend="torchcodec")
    assert made_up.damage is None
    assert len(made_up.frames) == 40


@installed
@pytest.mark.parametrize("name", ["groups.mp4", "groups.ts", "groups.mkv", "vp9.webm", "xvid.avi"])
def test_truncated_files_are_read_as_by_pyav(name: str, file) -> None:
    data = file(name).read_bytes()
    for part in (0.3, 0.6, 0.9):
        messages = []
        for backend in ("pyav", "auto", "torchcodec"):
            try:
                video = load(data[: int(len(data) * part)], num_frames=7, backend=backend)
                messages.append((video.damage, video.indices.tolist(), video.frames.sum()))
            except VideoError as error:
                messages.append(str(error))
        assert messages[1:] == messages[:-1]
