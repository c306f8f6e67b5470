"""Frames chosen by a caller's own rule: what it is told, what it may say, and that nothing else is decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import video_zoo as zoo
from specvlm.errors import OptionError
from specvlm.video import Timeline, Video, load
from specvlm.video.backends import pyav

PICTURES = np.stack([zoo.picture(index) for index in range(12)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("videos")


def test_a_rule_is_told_the_timeline_and_gets_what_it_names(folder: Path) -> None:
    told: list[Timeline] = []

    def rule(timeline: Timeline) -> np.ndarray:
        told.append(timeline)
        return np.array([3, 4, 17, 39])

    video = load(zoo.make(folder, "groups.mp4"), choose=rule)
    assert zoo.indices_of(video.frames) == video.indices.tolist() == [3, 4, 17, 39]
    assert np.allclose(video.timestamps, video.indices / 30)
    (timeline,) = told
    assert (timeline.num_frames, timeline.fps) == (40, 30)
    assert timeline.duration == pytest.approx(40 / 30)
    assert np.allclose(timeline.seconds, np.arange(40) / 30)


def test_a_rule_sees_the_real_times_of_a_variable_rate(folder: Path) -> None:
    def late(timeline: Timeline) -> np.ndarray:
        return np.flatnonzero(timeline.seconds >= 1)

    video = load(zoo.make(folder, "variable.mp4"), choose=late)
    assert [zoo.VARIABLE[index] for index in zoo.indices_of(video.frames)] == [
        tick for tick in zoo.VARIABLE if tick >= 1000
    ]


@pytest.mark.parametrize("name", ["groups.mp4", "raw.h264", "groups.ts", "moving.gif"])
def test_a_frame_named_twice_comes_twice(name: str, folder: Path) -> None:
    video = load(zoo.make(folder, name), choose=lambda _: np.array([0, 5, 5, 5, 38]))
    assert zoo.indices_of(video.frames) == video.indices.tolist() == [0, 5, 5, 5, 38]
    assert (np.diff(video.timestamps) > 0).tolist() == [True, False, False, True]


@pytest.mark.parametrize("source", [PICTURES, torch.from_numpy(PICTURES), list(PICTURES), Video(PICTURES)])
def test_frames_in_memory_are_chosen_by_the_same_rule(source: object) -> None:
    video = load(source, choose=lambda timeline: np.arange(timeline.num_frames)[1::4])
    assert zoo.indices_of(video.frames) == video.indices.tolist() == [1, 5, 9]
    assert video.total_frames == 12
    twice = load(source, choose=lambda _: np.array([2, 2]), source_fps=4)
    assert zoo.indices_of(twice.frames) == [2, 2]
    assert twice.timestamps.tolist() == [0.5, 0.5]


def test_only_what_is_needed_for_the_choice_is_decoded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zoo.write(folder / "long.mp4", 250, options={"x264-params": "keyint=25:scenecut=0:qp=20"})
    decoded: list[object] = []
    decode_packet = pyav._Decoder._decode

    def counting(self, packet):
        decoded.append(packet)
        return decode_packet(self, packet)

    monkeypatch.setattr(pyav._Decoder, "_decode", counting)
    assert zoo.indices_of(load(path, choose=lambda _: np.array([200]), backend="pyav").frames) == [200]
    assert len(decoded) < 10


def test_a_rule_is_asked_again_when_frames_turn_out_lost(folder: Path) -> None:
    def break_it(ordinal: int, data: bytes) -> bytes | None:
        return data[: len(data) // 2] + bytes(len(data) - len(data) // 2) if ordinal == 20 else None

    path = zoo.remux(zoo.make(folder, "groups.mp4"), folder / "broken.mp4", break_it)
    totals: list[int] = []

    def last_frames(timeline: Timeline) -> np.ndarray:
        totals.append(timeline.num_frames)
        return np.arange(timeline.num_frames)[10:]

    video = load(path, choose=last_frames, backend="pyav")
    assert totals[0] == 40
    assert totals[-1] == video.total_frames < 40
    assert video.indices.tolist() == list(range(10, video.total_frames))
    assert "can't be decoded" in video.damage


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ([], "at least one"),
        ([[0, 1]], "shape [1, 2]"),
        (3, "shape []"),
        ([0.0, 1.0], "float64"),
        ([True, False], "bool"),
        ([0, 40], "from 0 to 39"),
        ([-1, 3], "from 0 to 39"),
        ([3, 2], "never fall"),
        (None, "object"),
    ],
)
def test_an_answer_that_no_video_can_fulfil_is_refused(answer: object, words: str, folder: Path) -> None:
    with pytest.raises(OptionError) as caught:
        load(zoo.make(folder, "groups.mp4"), choose=lambda _: answer)
    assert words in str(caught.value)


def test_a_rule_may_answer_with_any_whole_numbers(folder: Path) -> None:
    path = zoo.make(folder, "groups.mp4")
    for answer in ([0, 9], (0, 9), np.array([0, 9], np.uint8), torch.tensor([0, 9], dtype=torch.int32)):
        video = load(path, choose=lambda _, answer=answer: answer)
        assert video.indices.tolist() == [0, 9]
        assert video.indices.dtype == np.int64


def test_errors_of_a_rule_are_not_blamed_on_the_file(folder: Path) -> None:
    class OwnError(ValueError):
        pass

    def rule(timeline: Timeline) -> np.ndarray:
        raise OwnError("mine")

    for source in (zoo.make(folder, "groups.mp4"), zoo.make(folder, "raw.h264"), PICTURES):
        with pytest.raises(OwnError, match=r"^mine$"):
            load(source, choose=rule)
    with zoo.make(folder, "groups.mp4").open("rb") as file:
        file.seek(7)
        with pytest.raises(OwnError):
            load(file, choose=rule)
        assert file.tell() == 7


@pytest.mark.parametrize("option", [{"num_frames": 8}, {"fps": 1.0}, {"max_frames": 3}])
def test_a_rule_stands_alone(option: dict) -> None:
    with pytest.raises(OptionError) as caught:
        load("no such file", choose=lambda _: np.array([0]), **option)
    ((name, value),) = option.items()
    assert f"leave out {name}={value}" in str(caught.value)


def test_a_picture_is_a_video_of_one_frame_for_a_rule_too(tmp_path: Path) -> None:
    Image.fromarray(zoo.picture(9)).save(tmp_path / "one.png")
    video = load(tmp_path / "one.png", choose=lambda timeline: np.zeros(timeline.num_frames + 1, int))
    assert zoo.indices_of(video.frames) == [9, 9]
