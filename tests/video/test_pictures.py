"""One picture from whatever it comes in: upright, in the pixels that transformers reads, or refused in one line."""

from __future__ import annotations

import io
import random
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers.image_utils import load_image as load_by_transformers

import video_zoo as zoo
from specvlm.errors import SpecVLMError, VideoError
from specvlm.video import load, load_image

PIXELS = zoo.picture(37)


def photo(path: Path, orientation: int) -> Path:
    """A JPEG that is to be shown turned or mirrored, as EXIF numbers it."""
    image = Image.fromarray(PIXELS)
    exif = image.getexif()
    exif[274] = orientation
    image.save(path, exif=exif, quality=95)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_stand_upright_by_every_door(orientation: int, tmp_path: Path) -> None:
    path = photo(tmp_path / "photo.jpg", orientation)
    expected = np.asarray(load_by_transformers(str(path)))
    assert expected.shape == ((48, 64, 3) if orientation < 5 else (64, 48, 3))
    assert np.array_equal(load_image(path), expected)
    assert np.array_equal(load_image(Image.open(path)), expected)
    assert np.array_equal(load([path]).frames[0], expected)
    assert np.array_equal(load(tmp_path).frames[0], expected)
    assert np.array_equal(load(path).frames[0], expected)  # as a video of one frame
    stored = np.asarray(Image.open(path))
    assert np.array_equal(expected, stored) == (orientation == 1)


@pytest.mark.parametrize(
    ("suffix", "mode", "options"),
    [
        ("bmp", "RGB", {}),
        ("jpg", "RGB", {"quality": 60}),
        ("jpg", "L", {}),
        ("jpg", "CMYK", {}),
        ("png", "RGB", {}),
        ("png", "RGBA", {}),
        ("png", "P", {}),
        ("png", "L", {}),
        ("webp", "RGB", {"lossless": True}),
        ("tiff", "RGB", {}),
        ("ppm", "RGB", {}),
    ],
)
def test_pixels_are_those_of_transformers(suffix: str, mode: str, options: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / f"picture.{suffix}"
    Image.fromarray(PIXELS).convert(mode).save(path, **options)
    assert np.array_equal(load_image(path), np.asarray(load_by_transformers(str(path))))


def test_every_door_leads_to_the_same_pixels(tmp_path: Path) -> None:
    path = tmp_path / "picture: 100% #1.txt"
    Image.fromarray(PIXELS).save(path, "png")
    data = path.read_bytes()
    tensor = torch.from_numpy(PIXELS)
    for source in (
        path,
        str(path),
        data,
        bytearray(data),
        memoryview(data),
        io.BytesIO(data),
        PIXELS,
        PIXELS.astype(np.float32) / 255,
        np.moveaxis(PIXELS, -1, 0),
        tensor,
        tensor.permute(2, 0, 1) / 255,
        Image.fromarray(PIXELS),
        Image.fromarray(PIXELS).convert("RGBA"),
    ):
        pixels = load_image(source)
        assert np.array_equal(pixels, PIXELS)
        assert pixels.dtype == np.uint8
        pixels[0] = 7  # the caller's own
    assert np.array_equal(PIXELS, zoo.picture(37))
    assert np.array_equal(tensor.numpy(), PIXELS)


def test_an_open_file_is_left_as_it_was_found(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "picture.png")
    with (tmp_path / "picture.png").open("rb") as file:
        file.seek(11)
        assert np.array_equal(load_image(file), PIXELS)
        assert not file.closed
        assert file.tell() == 11


def refused(source: object) -> str:
    with pytest.raises(VideoError) as caught:
        load_image(source)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_each_unreadable_picture_gets_an_error_of_its_own(tmp_path: Path) -> None:
    video = zoo.write(tmp_path / "video.mp4", 3)
    Image.fromarray(PIXELS).save(tmp_path / "half.jpg", quality=95)
    (tmp_path / "half.jpg").write_bytes((tmp_path / "half.jpg").read_bytes()[:800])
    messages = {
        "there is no file": refused(tmp_path / "missing.png"),
        "nothing is fetched from URLs": refused("https://example.org/picture.png"),
        "Is a directory": refused(tmp_path),
        "is empty (0 bytes)": refused(b""),
        "the picture of 8 bytes is a text file that begins 'not here'": refused(b"not here"),
        "expected a picture, such as JPEG": refused(video),
        "half.jpg can't be read as a picture: image file is truncated": refused(tmp_path / "half.jpg"),
        "is open as text": refused(io.StringIO("text")),
        "the int is of type int: expected an array": refused(7),
        "the NoneType is of type NoneType": refused(None),
        "the ndarray has shape [2, 4, 4, 3]: expected [H, W, 3]": refused(np.zeros((2, 4, 4, 3), np.uint8)),
        "the ndarray holds int64": refused(np.zeros((4, 4, 3), np.int64)),
        "the Tensor holds floats from 2 to 2": refused(torch.full((3, 4, 4), 2.0)),
    }
    assert [words for words, message in messages.items() if words not in message] == []


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")  # Pillow's own
@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "tiff", "gif", "bmp"])
def test_whatever_is_in_a_file_only_our_errors_come_out(kind: str) -> None:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[274] = 5
    Image.fromarray(PIXELS).save(buffer, kind, exif=exif)
    sound, dice, read = buffer.getvalue(), random.Random(kind), 0
    for _ in range(60):
        data = bytearray(sound)
        for _ in range(dice.choice([1, 5, 50])):
            data[dice.randrange(min(len(data), dice.choice([200, len(data)])))] = dice.randrange(256)
        if dice.random() < 0.3:
            del data[dice.randrange(len(data)) :]
        read += is_read(bytes(data))
    assert 0 < read < 60


def is_read(data: bytes) -> bool:
    try:
        load_image(data)
    except SpecVLMError:
        return False
    return True


@given(st.binary(max_size=300))
def test_random_bytes_are_no_picture(data: bytes) -> None:
    refused(data)


DRAWINGS = {
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\nshowpage\n%%EOF\n",
    "PDF": b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\n",
    "SVG": b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg' width='4' height='4'></svg>\n",
    "Windows metafile": b"\xd7\xcd\xc6\x9a\0\0" + bytes(16) + b"\x01\0\x09\0" + bytes(60),
}


@pytest.mark.parametrize("kind", DRAWINGS)
@pytest.mark.parametrize("suffix", ["eps", "png"])
def test_a_drawing_is_refused_by_name_and_nothing_else_is_run(kind, suffix, tmp_path, monkeypatch) -> None:
    started: list[object] = []
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **kwargs: started.append(args))
    path = tmp_path / f"picture.{suffix}"
    path.write_bytes(DRAWINGS[kind])
    for source in (path, DRAWINGS[kind], io.BytesIO(DRAWINGS[kind])):
        assert f" {kind}, which is drawn by" in refused(source)
    for source in (path, [path], tmp_path):
        with pytest.raises(VideoError):
            load(source)
    assert started == []


def test_nor_is_one_that_somebody_else_opened(monkeypatch) -> None:
    started: list[object] = []
    with Image.open(io.BytesIO(DRAWINGS["PostScript"])) as image:
        monkeypatch.setattr(subprocess, "Popen", lambda *args, **kwargs: started.append(args))
        assert "the EpsImageFile is an unread EPS" in refused(image)
    assert started == []


@pytest.mark.parametrize("kind", ["sgi", "dds", "pcx", "tga"])
def test_only_formats_of_a_list_are_read(kind) -> None:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, kind)
    if kind in ("pcx", "tga"):
        assert np.array_equal(load_image(buffer.getvalue()), PIXELS)
    else:
        assert "is in none of the formats AVIF, BMP, " in refused(buffer.getvalue())


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "gif", "bmp", "tiff", "jpeg2000", "ppm", "ico", "avif"])
def test_a_name_that_lies_changes_nothing(kind, tmp_path) -> None:
    path = tmp_path / ("lie.png" if kind != "png" else "lie.bmp")
    Image.fromarray(PIXELS).save(path, kind)
    with Image.open(path) as image:
        assert np.array_equal(load_image(path), np.asarray(image.convert("RGB")))
    assert np.array_equal(load(tmp_path).frames[0], load_image(path))
