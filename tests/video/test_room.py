"""Files that claim to be enormous: refused before their size is taken at its word."""

from __future__ import annotations

import io
import resource
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import video_zoo as zoo
from specvlm.errors import VideoError
from specvlm.video import load, load_image, room


def giant_gif(path: Path, side: int) -> bytes:
    data = bytearray(zoo.write(path, 4, codec="gif", pix_fmt="rgb8").read_bytes())
    struct.pack_into("<HH", data, 6, side, side)
    return bytes(data)


def giant_png(side: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(zoo.picture(1)).save(buffer, "png")
    data = bytearray(buffer.getvalue())
    struct.pack_into(">II", data, 16, side, side)
    struct.pack_into(">I", data, 29, zlib.crc32(bytes(data[12:29])))
    return bytes(data)


def peak() -> int:
    """Bytes of memory at the most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def test_a_header_with_a_giant_frame_takes_no_memory(tmp_path: Path) -> None:
    data, before = giant_gif(tmp_path / "giant.gif", 15000), peak()
    with pytest.raises(VideoError, match="frames of 15000 x 15000 pixels: the most that are read are 134217728"):
        load(data)
    assert peak() - before < 2**28  # a single frame would be 900 MB


def test_a_giant_picture_takes_no_memory(tmp_path: Path) -> None:
    data, before = giant_png(12000), peak()
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(VideoError, match="frames of 12000 x 12000"):
        load_image(data)
    with pytest.raises(VideoError, match="exceeds limit"):
        load_image(giant_png(30000))
    assert peak() - before < 2**28


def test_many_large_frames_are_refused_by_name_and_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zoo.write(tmp_path / "video.mp4", 12)
    pixels = zoo.WIDTH * zoo.HEIGHT
    monkeypatch.setattr(room, "MAX_PIXELS", 7 * pixels)
    assert len(load(path, num_frames=7).frames) == 7
    with pytest.raises(VideoError, match=rf"8 frames of 64 x 48 pixels from .*video.mp4 are {8 * pixels} pixels"):
        load(path, num_frames=8)
    for index in range(8):
        Image.fromarray(zoo.picture(index)).save(tmp_path / f"{index}.png")
    assert len(load(tmp_path, num_frames=7).frames) == 7
    with pytest.raises(VideoError, match="8 frames of 64 x 48"):
        load(tmp_path, num_frames=8)
    in_memory = np.zeros((8, 48, 64, 3), np.uint8)  # whoever has them has had the room for them
    assert len(load(in_memory).frames) == 8


def test_a_frame_of_the_largest_size_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zoo.write(tmp_path / "video.mp4", 3)
    monkeypatch.setattr(room, "MAX_FRAME_PIXELS", zoo.WIDTH * zoo.HEIGHT)
    assert len(load(path).frames) == 3
    monkeypatch.setattr(room, "MAX_FRAME_PIXELS", zoo.WIDTH * zoo.HEIGHT - 1)
    with pytest.raises(VideoError, match="scale it down first"):
        load(path)
