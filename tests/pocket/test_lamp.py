"""The little world under a lamp: the same things in the same places, and what light does to them."""

from pathlib import Path

import numpy as np
import pytest

import specvlm
from specvlm import pocket
from specvlm.pocket import HELD_OUT, lamp
from specvlm.pocket.language import describe
from specvlm.pocket.world import BACKGROUNDS, COLOURS, Event, Scene, Thing, make_scene, render

MOMENTS = (0.05, 0.4, 0.6, 0.95)
LARGE = Scene("grey", (Thing("red", "circle", "large", 4),), (Event(0, "hides", 4),))


def apart(some: np.ndarray, others: np.ndarray) -> float:
    return float(np.abs(some.astype(int) - others).mean())


@pytest.mark.parametrize("number", range(8))
def test_what_is_shown_is_the_drawn_film(number: int) -> None:
    drawn, other = (render(make_scene(HELD_OUT[each]), MOMENTS, 192) for each in (number, number + 1))
    lit = lamp.render(make_scene(HELD_OUT[number]), MOMENTS, 192)
    assert lit.shape == drawn.shape
    assert apart(lit, drawn) < 8
    assert apart(lit, drawn) < apart(lit, other) / 2
    on_bodies = np.abs(drawn.astype(int) - drawn[0, 0, 0]).max(-1) > 40
    assert apart(lit[on_bodies], drawn[on_bodies]) < 30


def test_it_is_the_same_each_time_and_in_any_size() -> None:
    scene = make_scene(HELD_OUT[2])
    assert np.array_equal(lamp.render(scene, MOMENTS, 96), lamp.render(scene, MOMENTS, 96))
    large = lamp.render(scene, MOMENTS, 192).reshape(4, 96, 2, 96, 2, 3).mean((2, 4))
    assert np.abs(large - lamp.render(scene, MOMENTS, 96)).mean() < 3


def test_the_lamp_stands_in_the_upper_left() -> None:
    frame = lamp.render(LARGE, [0.0], 192)[0].astype(int).sum(-1)
    middle, inside, outside = 96, 17, 22  # 28 wide in 96: its edge is at 28 of 192, towards a corner 20 of each axis
    edge = slice(-2, 3)

    def at(distance: int) -> float:
        rows = slice(middle + distance + edge.start, middle + distance + edge.stop)
        return float(frame[rows, rows].mean())

    assert at(-inside) > at(0) > at(inside)
    assert at(outside) < at(-outside)


def test_what_hides_leaves_no_shadow() -> None:
    shown, hidden = lamp.render(LARGE, [0.0, 0.5], 96)
    table = lamp.render(Scene("grey", (), ()), [0.0, 0.5], 96)[1]
    assert np.array_equal(hidden, table)
    assert not np.array_equal(shown, table)


def test_colours_stay_what_they_are_called() -> None:
    for name, rgb in COLOURS.items():
        scene = Scene("black", (Thing(name, "square", "large", 4),), (Event(0, "blinks", 4),))
        top = lamp.render(scene, [0.0], 96)[0, 46:50, 46:50].reshape(-1, 3).mean(0)
        nearest = min(COLOURS, key=lambda each: float(np.abs(np.array(COLOURS[each]) - top).sum()))
        assert nearest == name
        assert np.abs(top - rgb).max() < 25


def test_tables_are_about_as_bright_as_backgrounds() -> None:
    for name, rgb in BACKGROUNDS.items():
        table = lamp.render(Scene(name, (), ()), [0.0], 96)[0].reshape(-1, 3).mean(0)
        assert np.abs(table - rgb).max() < 6


@pytest.mark.parametrize("family", pocket.FAMILIES)
def test_one_such_film_is_told_right_by_both_pairs(family: str, tmp_path: Path) -> None:
    vlm = specvlm.load(pocket.path(family, "target"), pocket.path(family, "draft"), dtype="float32")
    film = pocket.demo_video(tmp_path / "film.mp4", pocket.FILMED, lit=True)
    answer = vlm.generate(film, "Describe the video in detail.", plan="fixed")
    assert answer.text.strip() == describe(make_scene(HELD_OUT[pocket.FILMED]))
