"""What a Video says about where its frames come from, and what transformers makes of it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.video_utils import VideoMetadata

import video_zoo as zoo
from specvlm.errors import VideoError
from specvlm.video import Video, load
from specvlm.video.sampling import Sampling, Timeline, rate

PICTURES = np.stack([zoo.picture(index) for index in range(12)])
NTSC = Fraction(30000, 1001)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("videos")


# --- where the frames come from ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["groups.mp4", "groups.ts", "variable.mkv", "raw.h264", "vp9.webm", "moving.gif"])
def test_indices_tell_which_frames_of_the_file_these_are(name: str, folder: Path) -> None:
    video = load(zoo.make(folder, name), num_frames=7)
    assert video.indices.tolist() == zoo.indices_of(video.frames)
    assert video.total_frames == zoo.FILES[name].get("num_frames", 40)
    again = load(video, num_frames=3)
    assert again.indices.tolist() == zoo.indices_of(again.frames)
    assert again.total_frames == video.total_frames
    assert again.source_fps == video.source_fps


def test_frames_in_memory_count_themselves() -> None:
    assert load(PICTURES).indices.tolist() == list(range(12))
    assert Video(PICTURES).indices.tolist() == list(range(12))
    assert Video(PICTURES).total_frames == 12
    few = load(torch.from_numpy(PICTURES), num_frames=4)
    assert few.indices.tolist() == [0, 3, 7, 11]
    assert few.total_frames == 12
    assert load(few, num_frames=2).indices.tolist() == [0, 11]


def test_a_clock_given_later_runs_over_the_whole_source() -> None:
    few = load(PICTURES, num_frames=4)
    timed = load(few, source_fps=2)
    assert timed.timestamps.tolist() == [0, 1.5, 3.5, 5.5]
    assert timed.duration == 6
    assert timed.metadata()["frames_indices"] == [0, 3, 7, 11]


def test_indices_can_not_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        load(PICTURES).indices[0] = 3


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"indices": np.array([0, 2, 1])}, "never fall"),
        ({"indices": np.array([-1, 0, 1])}, "from 0"),
        ({"indices": np.array([0, 1, 2]), "total_frames": 2}, "from 0 to 1"),
        ({"timestamps": np.array([0.0, 1.0, 1.0])}, "increase"),
        ({"timestamps": np.array([0.0, 2.0, 1.0])}, "increase"),
        ({"timestamps": np.array([0.0, np.nan, 1.0])}, "increase"),
        ({"timestamps": np.array([0.0, 0.5, 1.0]), "indices": np.array([0, 0, 1])}, "increase"),
    ],
)
def test_frames_out_of_order_are_refused(fields: dict, words: str) -> None:
    with pytest.raises(VideoError, match=words):
        Video(PICTURES[:3], **fields)


# --- metadata ---------------------------------------------------------------------------------------------------------


def read_by_transformers(path: Path, indices: list[int]) -> VideoMetadata:
    """What `transformers.video_utils.read_video_pyav` says of these frames, from the header alone."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        total, fps = stream.frames, stream.average_rate
    return VideoMetadata(total, float(fps), duration=float(total / fps), frames_indices=indices)


@pytest.mark.parametrize("fps", [24, 25, 30, 60, NTSC, Fraction(24000, 1001), Fraction(25, 2), Fraction(10, 3), 7, 1])
@pytest.mark.parametrize("num_frames", [1, 2, 39, 40])
def test_a_constant_rate_gives_what_transformers_reads_to_the_bit(
    fps: Fraction | int, num_frames: int, tmp_path: Path
) -> None:
    path = zoo.write(tmp_path / "constant.mp4", num_frames, rate=fps)
    video = load(path, num_frames=5)
    ours, theirs = VideoMetadata(**video.metadata()), read_by_transformers(path, video.indices.tolist())
    assert ours.frames_indices == theirs.frames_indices
    assert all(type(index) is int for index in ours.frames_indices)
    assert (ours.total_num_frames, ours.fps) == (theirs.total_num_frames, theirs.fps)
    assert (ours.timestamps, ours.sampled_fps) == (theirs.timestamps, theirs.sampled_fps)
    assert ours.duration == pytest.approx(theirs.duration, rel=1e-12)
    assert (ours.width, ours.height) == (zoo.WIDTH, zoo.HEIGHT)


@pytest.mark.parametrize("name", ["variable.mp4", "variable.mkv", "groups.mkv", "vp9.webm", "moving.gif", "xvid.avi"])
def test_metadata_puts_every_frame_at_its_real_time(name: str, folder: Path) -> None:
    video = load(zoo.make(folder, name), num_frames=6)
    metadata = VideoMetadata(**video.metadata())
    assert np.allclose(metadata.timestamps, video.timestamps, rtol=0, atol=1e-6)
    assert metadata.total_num_frames / metadata.fps == pytest.approx(video.duration, rel=1e-9)
    # What Qwen2.5-VL takes a temporal patch of two frames to last: an even share of the whole video.
    assert 2 / metadata.sampled_fps == pytest.approx(2 * video.duration / len(video.frames), rel=1e-9)
    if name.startswith("variable"):
        counted = video.indices / metadata.fps
        assert np.abs(counted - video.timestamps).max() > 0.1  # what counting frames would say


def test_metadata_of_a_choice_among_frames_is_that_of_the_source(folder: Path) -> None:
    path = zoo.make(folder, "groups.mp4")
    direct, indirect = load(path, num_frames=2), load(load(path, num_frames=5), num_frames=2)
    assert direct.metadata() == indirect.metadata()


def test_without_a_clock_there_is_no_rate() -> None:
    metadata = load(PICTURES, num_frames=4).metadata()
    assert metadata == {
        "total_num_frames": 12,
        "fps": None,
        "frames_indices": [0, 3, 7, 11],
        "duration": None,
        "width": zoo.WIDTH,
        "height": zoo.HEIGHT,
    }
    assert VideoMetadata(**metadata).sampled_fps == 24  # what transformers assumes


def test_a_rate_that_was_given_is_passed_on_as_it_is() -> None:
    for fps in (24, 29.97, float(NTSC), 1 / 3):
        metadata = load(PICTURES, source_fps=fps, num_frames=4).metadata()
        assert metadata["fps"] == float(fps)
        assert type(metadata["fps"]) is float
        assert metadata["frames_indices"] == [0, 3, 7, 11]
        assert metadata["duration"] == pytest.approx(12 / float(fps))


def test_metadata_of_a_video_made_by_hand() -> None:
    times = np.array([0.0, 0.5, 2.0])
    metadata = VideoMetadata(**Video(PICTURES[:3], times).metadata())
    assert metadata.timestamps == pytest.approx(times)
    assert metadata.fps == 1
    single = Video(PICTURES[:1], np.array([0.0])).metadata()
    assert (single["fps"], single["frames_indices"]) == (None, [0])


def test_metadata_is_made_anew_for_each_reader() -> None:
    """The processor of Qwen3-VL extends the list that it is given."""
    video = load(PICTURES)
    video.metadata()["frames_indices"].append(7)
    assert len(video.metadata()["frames_indices"]) == 12


# --- rates ------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 10**6), st.integers(1, 240000), st.sampled_from([1, 2, 3, 1000, 1001]))
def test_a_simple_rate_survives_being_turned_into_seconds(count: int, numerator: int, denominator: int) -> None:
    exact = Fraction(numerator, denominator)
    assert rate(count, float(count / exact)) == float(exact)
    assert Timeline.regular(count, float(exact)).fps == float(exact)


@given(st.integers(1, 10**9), st.floats(1e-6, 1e12))
def test_any_rate_is_right_to_the_last_digits(count: int, seconds: float) -> None:
    assert rate(count, seconds) == pytest.approx(count / seconds, rel=2e-12)


def test_division_alone_would_not_do() -> None:
    """The negative control: there are plain rates whose last bit dividing by the duration loses."""
    lost = [n for n in range(1, 2000) if n / float(n / NTSC) != float(NTSC)]
    assert lost
    assert all(rate(n, float(n / NTSC)) == float(NTSC) for n in lost)


def test_resampling_keeps_the_object_if_nothing_changes() -> None:
    video = load(PICTURES)
    assert video.sampled(Sampling().choose) is video
    assert video.sampled(lambda _: np.zeros(12, np.int64)) is not video
