"""Two sources are the same only if they surely hold the same."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny
from specvlm.video.identity import identity

FRAMES = np.random.default_rng(0).integers(0, 256, (4, 6, 8, 3), dtype=np.uint8)


def changed(frames: np.ndarray) -> np.ndarray:
    frames = frames.copy()
    frames[-1, -1, -1, -1] ^= 1
    return frames


SAME: list[tuple[Any, Any]] = [
    (FRAMES, FRAMES.copy()),
    (FRAMES, np.asfortranarray(FRAMES)),
    (list(FRAMES), [frame.copy() for frame in FRAMES]),
    (b"abc", bytearray(b"abc")),
    (torch.arange(6).to(torch.uint8), torch.arange(6).to(torch.uint8)),
    (tiny.film(3, 1), tiny.film(3, 1)),
    (("a.mp4", 3), ["a.mp4", 3]),
    (None, None),
]

DIFFERENT: list[tuple[Any, Any]] = [
    (FRAMES, changed(FRAMES)),
    (FRAMES, FRAMES.reshape(4, 8, 6, 3)),
    (FRAMES, FRAMES.view(np.int8)),
    (list(FRAMES), list(FRAMES[:3])),
    (b"abc", b"abd"),
    (tiny.film(3, 1), tiny.film(3, 2)),
    (tiny.film(3, 1), tiny.film(3, 1, fps=3.0)),
    (tiny.film(3, 1), replace(tiny.film(3, 1), duration=9.0)),
    ("no such file", "no such file either"),
    ({}, {}),  # nothing that can be compared
    (4, 5),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_the_same(one: Any, other: Any) -> None:
    assert identity(one) == identity(other)
    assert hash(identity(one)) == hash(identity(other))


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_something_else(one: Any, other: Any) -> None:
    assert identity(one) != identity(other)


def test_files_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film, copy, folder = tmp_path / "film.mp4", tmp_path / "copy.mp4", tmp_path / "frames"
    for path in (film, copy):
        path.write_bytes(b"abc")
    folder.mkdir()
    (folder / "1.png").write_bytes(b"abc")
    monkeypatch.chdir(tmp_path)
    assert identity(film) == identity(str(film)) == identity("film.mp4")
    assert identity(film) != identity(copy)
    before = identity(film), identity(folder)
    film.write_bytes(b"abd")
    os.utime(film, ns=(1, 1))
    (folder / "2.png").write_bytes(b"abc")
    assert identity(film) != before[0]
    assert identity(folder) != before[1]
    assert identity(folder) != identity(folder / "1.png")
