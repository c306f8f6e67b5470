"""A tiny pair on disk and a small film."""

from __future__ import annotations

from pathlib import Path

import pytest

import video_zoo
from tiny import llava_model, llava_processor, noised


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pair")
    model = llava_model(seed=1)
    for name, it in (("target", model), ("draft", noised(model, 0.05))):
        it.save_pretrained(folder / name)
        llava_processor().save_pretrained(folder / name)
    return folder


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return video_zoo.write(tmp_path_factory.mktemp("film") / "film.mp4", 12)
