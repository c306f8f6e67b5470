"""Measuring: films have the clock that their mp4 would have, and a family's table replaces its own alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from specvlm import pocket
from specvlm.bench.pocket_pairs import Reader, acceptance_table, accuracy, film, film_after_codec, put
from specvlm.pocket.world import make_scene

PAGE = """before
<!-- accuracy one -->
old
<!-- end of accuracy one -->
between
<!-- accuracy two -->
other
<!-- end of accuracy two -->
after
"""


def test_a_film_and_its_mp4_have_one_clock() -> None:
    scene = make_scene(pocket.HELD_OUT[0])
    made, read = film(scene, 16), film_after_codec(scene, 16)
    assert made.frames.shape == (16, 96, 96, 3)
    assert len(read.frames) == 16
    assert made.source_fps == read.source_fps
    assert made.duration == read.duration
    assert made.timestamps is not None
    assert np.allclose(made.timestamps, (np.arange(16) + 0.5) / 4)


def test_the_clock_reaches_the_model() -> None:
    reader = Reader("qwen2_5_vl", pocket.path("qwen2_5_vl", "draft"), torch.float32)
    inputs = reader.inputs([film(make_scene(0), 16), film(make_scene(1), 16)], "Count the shapes.")
    assert inputs["second_per_grid_ts"].tolist() == [0.5, 0.5]


def test_another_films_pixels_are_worth_little() -> None:
    reader = Reader("qwen2_5_vl", pocket.path("qwen2_5_vl", "draft"), torch.float32)
    seeds = pocket.HELD_OUT[:4]
    assert accuracy(reader, seeds, 16)["all"] > 0.7
    assert accuracy(reader, seeds, 16, shift=1)["all"] < 0.5


def test_a_table_replaces_its_own_family_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    put(page, "accuracy two", "new")
    assert page.read_text() == PAGE.replace("other", "new")


def test_a_cell_that_was_not_measured_is_empty() -> None:
    table = acceptance_table({("none", 0.0, "original"): 5.0, ("random", 0.5, "compact"): 4.25}, (0.0, 0.5))
    assert table.splitlines()[2:] == ["| `none` | original | 5.00 |  |", "| `random` | compact |  | 4.25 |"]
