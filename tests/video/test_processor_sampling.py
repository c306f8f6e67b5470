"""The frames, and then the tensors, of transformers' own video processors for the same options."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from transformers import LlavaOnevisionVideoProcessor, Qwen2VLVideoProcessor, Qwen3VLVideoProcessor
from transformers.video_utils import VideoMetadata

import video_zoo as zoo
from specvlm.errors import OptionError
from specvlm.video import DEFAULT_NUM_FRAMES, Timeline, load
from specvlm.video.processor_sampling import processor_sampling

QWEN: dict[str, Any] = {"patch_size": 4, "temporal_patch_size": 2, "merge_size": 2, "cap_pixels_per_frame": False}
PROCESSORS: dict[str, Any] = {
    "qwen2": Qwen2VLVideoProcessor(size={"shortest_edge": 64, "longest_edge": 1024}, **QWEN),
    "qwen3": Qwen3VLVideoProcessor(size={"shortest_edge": 128, "longest_edge": 32768}, **QWEN),
    "llava": LlavaOnevisionVideoProcessor(size={"height": 24, "width": 24}),
}
every_processor = pytest.mark.parametrize("name", PROCESSORS)

FILMS: dict[str, dict[str, Any]] = {
    "constant.mp4": {},
    "ntsc.mp4": {"rate": Fraction(30000, 1001)},
    "cinema.mp4": {"rate": 24, "num_frames": 100},
    "variable.mp4": zoo.FILES["variable.mp4"],
    "open.ts": zoo.FILES["open.ts"],
}


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("videos")
    for name, recipe in FILMS.items():
        zoo.write(folder / name, **recipe)
    return folder


def by_transformers(processor: Any, path: Path, options: dict[str, Any]) -> Any:
    """The whole video decoded, and sampled by the processor: what a user of transformers gets."""
    frames, _ = zoo.decode_all(path)
    video = load(path, num_frames=1)
    metadata = VideoMetadata(total_num_frames=len(frames), fps=video.source_fps, duration=video.duration)
    given = {"num_frames": None, "fps": None} | options
    return processor(
        videos=[frames],
        video_metadata=[metadata],
        do_sample_frames=True,
        return_metadata=True,
        return_tensors="pt",
        **given,
    )


def by_us(processor: Any, path: Path, options: dict[str, Any]) -> Any:
    video = load(path, choose=processor_sampling(processor, **options))
    return processor(
        videos=[np.array(video.frames)],
        video_metadata=[video.metadata()],
        do_sample_frames=False,
        return_metadata=True,
        return_tensors="pt",
    )


def same(ours: Any, theirs: Any) -> bool:
    """Whether two outputs of a processor hold the same tensors."""
    names = [name for name in theirs if name != "video_metadata"]
    assert "pixel_values_videos" in names
    return sorted(ours) == sorted(theirs) and all(torch.equal(ours[name], theirs[name]) for name in names)


@pytest.mark.part(2)
@every_processor
@pytest.mark.parametrize("film", FILMS)
@pytest.mark.parametrize(
    "options",
    [{"num_frames": 2}, {"num_frames": 8}, {"num_frames": 14}, {"fps": 2}, {"fps": 3.7}, {"fps": 10}],
    ids=lambda options: "-".join(f"{name}{value}" for name, value in options.items()),
)
def test_tensors_are_those_of_transformers(name: str, film: str, options: dict[str, Any], films: Path) -> None:
    processor = PROCESSORS[name]
    ours, theirs = (by(processor, films / film, options) for by in (by_us, by_transformers))
    assert same(ours, theirs)
    (ours,), (theirs,) = ours["video_metadata"], theirs["video_metadata"]
    assert (ours.total_num_frames, ours.fps, ours.sampled_fps) == (
        theirs.total_num_frames,
        theirs.fps,
        theirs.sampled_fps,
    )
    if film.startswith(("constant", "ntsc", "cinema")):  # the rest stands at its real times, which they don't know
        assert list(ours.frames_indices) == list(theirs.frames_indices)


@every_processor
def test_other_frames_would_be_noticed(name: str, films: Path) -> None:
    processor = PROCESSORS[name]
    theirs = by_transformers(processor, films / "cinema.mp4", {"num_frames": 8})
    assert same(by_us(processor, films / "cinema.mp4", {"num_frames": 8}), theirs)
    off = by_transformers(processor, films / "cinema.mp4", {"num_frames": 10})
    assert not same(by_us(processor, films / "cinema.mp4", {"num_frames": 8}), off)
    ours = load(films / "cinema.mp4", num_frames=8)  # our own rule is another one
    assert not same(processor(videos=[np.array(ours.frames)], do_sample_frames=False, return_tensors="pt"), theirs)


@every_processor
@given(
    total=st.integers(1, 3000),
    rate=st.sampled_from([1.0, 10.0, 24.0, 25.0, 30000 / 1001, 30.0, 60.0]),
    count=st.one_of(st.none(), st.integers(1, 200)),
    fps=st.one_of(st.integers(1, 70), st.floats(0.01, 70)),
)
def test_indices_are_those_of_transformers_wherever_it_has_an_answer(
    name: str, total: int, rate: float, count: int | None, fps: float
) -> None:
    processor = PROCESSORS[name]
    options = {"fps": fps} if count is None else {"num_frames": count}
    chosen = processor_sampling(processor, **options)(Timeline.regular(total, rate))
    assert len(chosen) >= 1
    assert chosen.dtype == np.int64
    assert 0 <= chosen.min() <= chosen.max() < total
    assert (np.diff(chosen) >= 0).all()
    try:
        theirs = np.asarray(processor.sample_frames(VideoMetadata(total, fps=rate, duration=total / rate), **options))
    except (ValueError, ZeroDivisionError):
        return
    if theirs.max() < total and len(theirs) >= least(processor):
        assert chosen.tolist() == theirs.tolist()


def least(processor: Any) -> int:
    """Frames in a temporal patch."""
    return getattr(processor, "temporal_patch_size", 1)


@every_processor
@given(total=st.integers(1, 300), count=st.integers(1, 300), most=st.integers(1, 40), fps=st.floats(0.5, 60))
def test_a_bound_is_kept(name: str, total: int, count: int, most: int, fps: float) -> None:
    processor = PROCESSORS[name]
    line = Timeline.regular(total, 30.0)
    for options in ({"num_frames": count}, {"fps": fps}, {}):
        unbound = processor_sampling(processor, **options)(line)
        bound = processor_sampling(processor, max_frames=most, **options)(line)
        assert len(bound) <= max(most, least(processor))
        if len(unbound) <= most // least(processor) * least(processor):
            assert bound.tolist() == unbound.tolist()
        else:
            assert len(bound) > min(most, len(unbound)) - 2 * least(processor)


@every_processor
@given(total=st.integers(1, 60), more=st.integers(0, 60))
def test_a_video_too_short_gives_all_that_it_has(name: str, total: int, more: int) -> None:
    """Where transformers refuses; Qwen3-VL's processor doesn't, but repeats frames until there are enough."""
    processor = PROCESSORS[name]
    chosen = processor_sampling(processor, num_frames=total + more)(Timeline.regular(total, 30.0))
    unit = least(processor)
    if name == "qwen3":
        assert len(chosen) == max(total + more, unit)
        assert set(chosen) == set(range(total))
    elif total < unit:
        assert chosen.tolist() == [0] * unit
    else:
        assert total - unit < len(chosen) <= total
        assert len(chosen) % unit == 0
        assert len(set(chosen)) == len(chosen)


@every_processor
@pytest.mark.parametrize("total", [1, 2, 3, 5])
@pytest.mark.parametrize(
    "options", [{}, {"num_frames": 1}, {"num_frames": 3}, {"num_frames": 40}, {"fps": 1}, {"fps": 90}]
)
def test_whatever_is_chosen_the_processor_takes(name: str, total: int, options: dict[str, Any], tmp_path: Path) -> None:
    output = by_us(PROCESSORS[name], zoo.write(tmp_path / "short.mp4", total), options)
    assert torch.isfinite(output["pixel_values_videos"]).all()


def test_the_step_too_far_of_qwen2_is_left_out() -> None:
    processor = PROCESSORS["qwen2"]
    assert max(processor.sample_frames(VideoMetadata(17), num_frames=14)) == 17  # of frames 0 to 16
    chosen = processor_sampling(processor, num_frames=14)(Timeline(17))
    assert len(chosen) == 14
    assert chosen.max() == 15


def test_without_options_it_is_the_processors_own_default() -> None:
    line = Timeline.regular(300, 30.0)
    by_fps = PROCESSORS["qwen3"].sample_frames(VideoMetadata(300, fps=30.0), fps=2)
    assert processor_sampling(PROCESSORS["qwen3"])(line).tolist() == by_fps.tolist()
    assert len(by_fps) == 20
    for name in ("qwen2", "llava"):
        assert len(processor_sampling(PROCESSORS[name])(line)) == DEFAULT_NUM_FRAMES
    eight = LlavaOnevisionVideoProcessor(num_frames=8)
    assert len(processor_sampling(eight)(line)) == 8
    assert len(processor_sampling(eight, fps=2)(line)) == 20  # what is asked for is not its default
    assert eight.num_frames == 8


@every_processor
def test_a_source_without_a_clock(name: str) -> None:
    processor = PROCESSORS[name]
    with pytest.raises(OptionError, match=r"fps=2 needs to know .* no clock"):
        processor_sampling(processor, fps=2)(Timeline(100))
    assert len(processor_sampling(processor, num_frames=8)(Timeline(100))) == 8
    assert len(processor_sampling(processor)(Timeline(100))) == DEFAULT_NUM_FRAMES
    assert processor_sampling(processor)(Timeline(6)).tolist() == list(range(6))


@pytest.mark.parametrize("options", [{"num_frames": 0}, {"fps": -1}, {"max_frames": 0}, {"num_frames": 3, "fps": 1}])
def test_options_out_of_range_are_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=next(iter(options))):
        processor_sampling(PROCESSORS["qwen2"], **options)


@given(st.integers(2, 500), st.floats(0.1, 10))
def test_a_variable_rate_is_sampled_by_its_average(total: int, fps: float) -> None:
    """All that transformers' processors know is how many frames there are, and how many a second."""
    times = np.cumsum(np.random.default_rng(total).uniform(0.001, 0.2, total))
    line = Timeline(total, times - times[0], float(times[-1] - times[0] + 0.1))
    assume(line.fps is not None)
    average = Timeline.regular(total, line.fps)
    rule = processor_sampling(PROCESSORS["qwen3"], fps=fps)
    assert rule(line).tolist() == rule(average).tolist()
