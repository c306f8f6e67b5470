"""Pictures that move are videos, with all their frames at their times; pages, and the views of one photo, are none."""

from __future__ import annotations

import io
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

import video_zoo as zoo
from specvlm.errors import SpecVLMError, VideoError
from specvlm.video import load, load_image

PICTURES = [Image.fromarray(zoo.picture(index)) for index in range(20)]
MILLISECONDS = [100, 50, 10, 20, 300, 1000, 100, 10, 40, 250] * 2
LOSSLESS = {"WEBP": {"lossless": True}, "PNG": {}, "GIF": {}, "AVIF": {"quality": 95}}


def moving(form: str, pictures: list[Image.Image] = PICTURES, **options: Any) -> bytes:
    """An animation, made by Pillow."""
    file = io.BytesIO()
    options = {"duration": MILLISECONDS, "loop": 0} | LOSSLESS.get(form, {}) | options
    pictures[0].save(file, form, save_all=True, append_images=pictures[1:], **options)
    return file.getvalue()


@pytest.mark.parametrize("form", ["WEBP", "PNG", "GIF", "AVIF"])
def test_all_frames_at_their_times(form: str, tmp_path: Path) -> None:
    path = tmp_path / f"moving.{form.lower()}"
    path.write_bytes(moving(form))
    # What nobody can mean is shown for 100 ms, as in browsers; AVIF is a film, which may be as fast as it likes.
    shown = [each if each > 10 or form == "AVIF" else 100 for each in MILLISECONDS]
    times = np.array([0, *accumulate(shown)]) / 1000
    for source in (path, path.read_bytes(), io.BytesIO(path.read_bytes())):
        whole = load(source)
        assert zoo.indices_of(whole.frames) == list(range(20))
        assert np.allclose(whole.timestamps, times[:-1])
        assert whole.duration == pytest.approx(times[-1])
        assert whole.source_fps == pytest.approx(20 / times[-1])
        assert whole.damage is None
    some = load(path, num_frames=5)
    assert zoo.indices_of(some.frames) == [0, 4, 9, 14, 19]
    assert np.array_equal(some.frames, whole.frames[[0, 4, 9, 14, 19]])
    assert np.allclose(some.timestamps, times[[0, 4, 9, 14, 19]])
    by_time = load(path, fps=2)
    nearest = [int(np.abs(times[:-1] - instant).argmin()) for instant in np.arange(0, times[-1], 0.5)]
    assert zoo.indices_of(by_time.frames) == list(dict.fromkeys(nearest))
    assert zoo.index_of(load_image(path)) == 0  # as a picture it is the first
    if form != "AVIF":  # which rounds
        assert np.array_equal(load_image(path), whole.frames[0])


@pytest.mark.parametrize("form", ["WEBP", "GIF", "PNG"])
def test_frames_that_say_nothing_of_time_go_by_all_the_same(form: str) -> None:
    video = load(moving(form, duration=0))
    assert zoo.indices_of(video.frames) == list(range(20))
    assert (np.diff(video.timestamps) > 0.05).all()
    assert 1 < video.duration <= 2.001


def test_loops_are_not_counted() -> None:
    for form in ("WEBP", "GIF", "PNG"):
        assert len(load(moving(form, loop=3)).frames) == 20


@pytest.mark.parametrize("form", ["WEBP", "PNG", "GIF"])
def test_a_frame_that_says_only_what_changed_is_put_together(form: str) -> None:
    """A dot that wanders over a picture: all but the first frame are a few pixels wide in the file."""
    frames, still = [], PICTURES[5].quantize(200).convert("RGB")
    for place in range(6):
        frame = still.copy()
        ImageDraw.Draw(frame).rectangle((8 * place, 30, 8 * place + 6, 36), fill=(255, 0, 0))
        frames.append(frame)
    data = moving(form, frames, duration=100)
    assert len(data) < 3 * len(moving(form, frames[:1], duration=100))
    video = load(data)
    assert len(video.frames) == 6
    for frame, drawn in zip(video.frames, frames, strict=True):
        assert np.abs(frame.astype(int) - np.asarray(drawn)).mean() < 2


def test_a_webp_of_one_picture_is_a_photo() -> None:
    file = io.BytesIO()
    PICTURES[3].save(file, "WEBP", lossless=True)
    video = load(file.getvalue())
    assert zoo.indices_of(video.frames) == [3]
    assert video.total_frames == 1


def test_a_webp_that_was_cut_short_is_refused_or_reported() -> None:
    data = moving("WEBP")
    for part in (0.3, 0.6, 0.95):
        with pytest.raises(VideoError) as caught:
            load(data[: int(len(data) * part)])
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("start", range(60, 3000, 420))
def test_a_webp_with_a_hole(start: int) -> None:
    data = bytearray(moving("WEBP"))
    data[start : start + 40] = bytes(40)
    try:
        video = load(bytes(data))
    except SpecVLMError as error:
        assert "\n" not in str(error)  # noqa: PT017 either may be
        return
    assert (np.diff(video.timestamps) > 0).all()
    assert len(video.frames) == 20 or video.damage


def test_pages_are_no_video(tmp_path: Path) -> None:
    path = tmp_path / "pages.tif"
    path.write_bytes(moving("TIFF"))
    with pytest.raises(VideoError, match=r"pages\.tif holds 20 pages, and pages are not the frames of a video"):
        load(path)
    assert zoo.index_of(load_image(path)) == 0
    assert zoo.indices_of(load([path]).frames) == [0]
    PICTURES[7].save(path)
    assert zoo.indices_of(load(path).frames) == [7]


def test_a_small_copy_within_a_tiff_is_no_page() -> None:
    file = io.BytesIO()
    small = PICTURES[7].resize((16, 12))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    PICTURES[7].save(file, "TIFF", save_all=True, append_images=[small])
    assert Image.open(io.BytesIO(file.getvalue())).n_frames == 2
    assert zoo.indices_of(load(file.getvalue()).frames) == [7]


def test_the_views_of_a_photo_are_no_video() -> None:
    data = moving("MPO", PICTURES[4:7], quality=95)
    video = load(data)
    assert zoo.indices_of(video.frames) == [4]
    assert video.timestamps.tolist() == [0]
    assert np.array_equal(video.frames[0], load_image(data))


def test_the_gain_map_of_a_photo_is_no_frame() -> None:
    """Phones put a second JPEG behind the photo, which tells brighter screens where to shine."""
    data = moving("MPO", PICTURES[4:6], quality=95, xmp=b'<x hdrgm:Version="1.0"/>')
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "JPEG"
    assert zoo.indices_of(load(data).frames) == [4]
