"""Screening: the frames of a whole decode, one by one, and a thread that nobody has to think of."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from PIL import Image

import video_zoo as zoo
from specvlm.errors import OptionError, VideoError
from specvlm.video import Video, load, room
from specvlm.video.backends import pyav
from specvlm.video.loading import load_before
from specvlm.video.sampling import Sampling, Timeline
from specvlm.video.screening import screening as screening_module
from specvlm.video.screening.programme import Audience, Programme
from specvlm.video.screening.screening import AHEAD, Reel, Screening, Void

SPREAD = Sampling(num_frames=9).choose
WHOLE = ("raw.h264",)
"""Those whose packets don't tell which frames there are."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("videos")


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def screened(source: object, choose: Callable = SPREAD, ahead: int = AHEAD) -> tuple[Video | Reel, list[np.ndarray]]:
    with Screening(partial(load_before, source=source, choose=choose, backend="pyav"), ahead=ahead) as screening:
        clip = screening.opening()
        return clip, [] if isinstance(clip, Video) else list(screening.frames())


@pytest.mark.parametrize("name", [name for name in zoo.FILES if name not in WHOLE])
def test_frames_are_those_of_a_whole_decode(folder: Path, name: str) -> None:
    path = zoo.make(folder, name)
    expected = load(path, choose=SPREAD, backend="pyav")
    clip, frames = screened(path)
    assert isinstance(clip, Reel)
    assert np.array_equal(frames, expected.frames)
    assert clip.metadata() == expected.metadata()
    assert (clip.name, clip.damage, clip.comment) == (expected.name, expected.damage, expected.comment)
    assert (clip.num_frames, tuple(clip.tensor().shape)) == (len(frames), tuple(expected.tensor().shape))
    assert clip.outline.frames.strides[:3] == (0, 0, 0)  # no memory


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_that_tells_too_little_comes_whole(folder: Path, name: str) -> None:
    path = zoo.make(folder, name)
    clip, _ = screened(path)
    assert isinstance(clip, Video)
    assert np.array_equal(clip.frames, load(path, choose=SPREAD, backend="pyav").frames)


def test_what_the_decoder_does_not_bear_out_is_void(folder: Path) -> None:
    """Keyframes that are none: found out when the second run of packets is decoded."""
    options = {"x264-params": "keyint=60:intra-refresh=1"}
    path = zoo.write(folder / "ever_new.mp4", 120, size=(176, 144), options=options)
    expected = load(path, choose=lambda line: np.array([0, 1, 110, 119]), backend="pyav")
    with Screening(
        partial(load_before, source=path, choose=lambda line: np.array([0, 1, 110, 119]), backend="pyav")
    ) as screening:
        assert isinstance(screening.opening(), Reel)
        with pytest.raises(Void) as void:
            list(screening.frames())
    assert np.array_equal(void.value.video.frames, expected.frames)


def test_a_file_damaged_inside_is_void_and_says_so(folder: Path) -> None:
    sound = zoo.make(folder, "groups.mkv")
    spoiled = zoo.remux(
        sound, folder / "spoiled.mkv", lambda number, packet: bytes(len(packet)) if number == 20 else bytes(packet)
    )
    expected = load(spoiled, choose=SPREAD, backend="pyav")
    assert expected.damage is not None
    with pytest.raises(Void) as void:
        screened(spoiled, ahead=2)  # so that the damage, four frames on, is not met before somebody looks
    assert void.value.video.damage == expected.damage
    assert np.array_equal(void.value.video.frames, expected.frames)


def test_turned_frames_have_the_size_that_is_seen(folder: Path) -> None:
    turned = zoo.turn(zoo.make(folder, "groups.mp4").read_bytes(), (0, 1, -1, 0))
    clip, frames = screened(turned)
    assert isinstance(clip, Reel)
    assert clip.tensor().shape == (9, 3, zoo.WIDTH, zoo.HEIGHT)
    assert np.array_equal(frames, load(turned, choose=SPREAD, backend="pyav").frames)


def test_a_frame_that_was_chosen_twice_comes_twice(folder: Path) -> None:
    _, frames = screened(zoo.make(folder, "groups.mp4"), lambda line: np.array([3, 3, 8, 39, 39, 39]))
    assert zoo.indices_of(np.stack(frames)) == [3, 3, 8, 39, 39, 39]


def test_an_open_file_is_left_where_it_stood_when_the_last_frame_is_there(folder: Path) -> None:
    file = io.BytesIO(zoo.make(folder, "groups.mp4").read_bytes())
    file.seek(7)
    with Screening(partial(load_before, source=file, choose=SPREAD, backend="pyav")) as screening:
        screening.opening()
        assert len(list(screening.frames())) == 9
        assert (file.tell(), file.closed) == (7, False)


def test_errors_of_the_thread_are_those_of_loading(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "plain.mp4").write_text("no video")
    for source in (folder / "plain.mp4", folder / "missing.mp4", b""):
        with pytest.raises(VideoError) as expected:
            load(source, choose=SPREAD)
        with pytest.raises(VideoError) as found:
            screened(source)
        assert str(found.value) == str(expected.value)
    with pytest.raises(OptionError, match="choose must return indices from 0 to 39"):
        screened(zoo.make(folder, "groups.mp4"), lambda line: np.array([40]))
    monkeypatch.setattr(room, "MAX_PIXELS", 8 * zoo.WIDTH * zoo.HEIGHT)
    with pytest.raises(VideoError, match="9 frames of 64 x 48 pixels"):
        screened(zoo.make(folder, "groups.mp4"))


def test_whoever_leaves_early_leaves_nothing_behind(folder: Path) -> None:
    path = zoo.make(folder, "groups.mp4")
    for taken in range(4):
        file = io.BytesIO(path.read_bytes())
        with Screening(partial(load_before, source=file, choose=SPREAD, backend="pyav"), ahead=1) as screening:
            if taken:
                screening.opening()
                frames = screening.frames()
                for _ in range(taken - 1):
                    next(frames)
        assert file.tell() == 0


@pytest.mark.parametrize("left_out", [0, 5, 30, 39])
def test_a_frame_that_never_comes_is_not_waited_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch, left_out: int
) -> None:
    """Whoever decodes hangs no frame too far ahead of one that is missing: until it is taken, which it won't be."""
    path, whole = zoo.make(folder, "groups.mp4"), pyav._Decoder.frames

    def without_one(decoder: pyav._Decoder, *packets: Any) -> Iterator[av.VideoFrame]:
        tick = round(left_out / zoo.RATE / decoder.stream.time_base)
        return (frame for frame in whole(decoder, *packets) if frame.pts != tick)

    monkeypatch.setattr(pyav._Decoder, "frames", without_one)
    each = Sampling(num_frames=40).choose
    with Screening(partial(load_before, source=path, choose=each, backend="pyav"), ahead=1) as screening:
        clip = screening.opening()
        if isinstance(clip, Reel):
            with pytest.raises(Void) as told:
                list(screening.frames())
            clip = told.value.video
    assert set(zoo.indices_of(clip.frames)) == {*range(40)} - {left_out}


class Frames:
    """A file that is none: it shows as many frames as it is told to, and counts them."""

    def __init__(self, count: int) -> None:
        self.count, self.shown = count, 0
        self.changed = threading.Semaphore(0)

    def __call__(self, audience: Audience) -> None:
        line, rows = Timeline.regular(self.count, 1), np.arange(self.count)
        wall = audience.told(Programme(line, rows, rows, "frames", None, None))
        for row in range(self.count):
            wall.hang(row, av.VideoFrame.from_ndarray(zoo.picture(row), format="rgb24"), VideoReformatter())
            self.shown += 1
            self.changed.release()
        assert wall.is_full


def test_no_more_frames_wait_than_may() -> None:
    film, spans = Frames(60), []
    with Screening(film, on_work=lambda start, end: spans.append((start, end))) as screening:
        screening.opening()
        for _ in range(AHEAD):
            film.changed.acquire()
        assert not film.changed.acquire(timeout=0.05)
        for taken, frame in enumerate(screening.frames(), 1):
            assert zoo.index_of(frame) == taken - 1
            if taken <= film.count - AHEAD:
                film.changed.acquire()
                assert film.shown <= taken + AHEAD
    assert film.shown == film.count
    assert len(spans) > 1  # it waited, and waiting is no work
    assert all(before[1] < after[0] for before, after in pairwise(spans))


def test_frames_may_come_out_of_order_and_again() -> None:
    def load_in_runs(audience: Audience) -> None:
        rows = np.arange(4)
        wall = audience.told(Programme(Timeline.regular(4, 1), rows, rows, "frames", None, None))
        for row in (2, 0, 3, 2, 1):
            assert not wall.is_full
            wall.hang(row, av.VideoFrame.from_ndarray(zoo.picture(row), format="rgb24"), VideoReformatter())

    with Screening(load_in_runs) as screening:
        screening.opening()
        assert zoo.indices_of(np.stack(list(screening.frames()))) == [0, 1, 2, 3]


def test_the_pictures_of_a_folder_come_one_by_one(tmp_path: Path) -> None:
    for index in range(12):
        Image.fromarray(zoo.picture(index)).save(tmp_path / f"{index}.png")
    load_so = partial(load_before, source=tmp_path, choose=SPREAD, source_fps=29.97)
    expected = load(tmp_path, choose=SPREAD, source_fps=29.97)
    with Screening(load_so) as screening:
        clip = screening.opening()
        assert isinstance(clip, Reel)
        assert np.array_equal(list(screening.frames()), expected.frames)
        assert clip.metadata() == expected.metadata()
    Image.new("RGB", (9, 9)).save(tmp_path / "11.png")
    with Screening(load_so) as screening:
        assert isinstance(screening.opening(), Reel)
        with pytest.raises(VideoError, match="differ in size"):
            list(screening.frames())


def test_of_large_frames_few_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that have come and were not yet taken, when the decoder has to wait."""
    monkeypatch.setattr(screening_module, "MOST_WAITING", 2 * zoo.WIDTH * zoo.HEIGHT)
    for index in range(12):
        Image.fromarray(zoo.picture(index)).save(tmp_path / f"{index}.png")
    with Screening(partial(load_before, source=tmp_path, choose=SPREAD)) as screening:
        assert isinstance(screening.opening(), Reel)
        waiting = [len(screening._hanging) for _ in screening.frames()]
    assert max(waiting) <= 2
