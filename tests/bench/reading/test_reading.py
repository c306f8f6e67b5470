"""Readers of films, side by side: all that are here read what a straight decode shows, or a star says they don't."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest

from specvlm.bench.builds.turns import OWN, compared
from specvlm.bench.reading import __main__ as command
from specvlm.bench.reading.films import FILMS, rendered
from specvlm.bench.reading.readers import installed, straight

PLACES = [0, 3, 4, 14]


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return rendered(FILMS["720p H.264"], 0.5, tmp_path_factory.mktemp("films") / "a.mp4")


def test_a_film_is_as_long_as_asked_and_something_moves_in_it(film):
    frames = straight(film, range(15))
    assert frames.shape == (15, 720, 1280, 3)
    assert all((earlier != later).any() for earlier, later in pairwise(frames))


def test_readers_on_pyav_read_the_same_frames_at_the_same_places(film):
    readers = installed()
    assert {"specvlm", "PyAV, straight", "transformers"} <= set(readers)
    lines = command.measured("a", film, {name: readers[name] for name in ("specvlm", "transformers")}, PLACES, 1)
    assert [(line.reader, line.same) for line in lines] == [("specvlm", True), ("transformers", True)]


def test_a_reader_of_other_frames_gets_a_star(film):
    def wrong(path, places):
        return straight(path, [place + 1 for place in places[:-1]] + [places[-1]])

    (line,) = command.measured("a", film, {"wrong": wrong}, PLACES, 1)
    assert not line.same
    assert re.search(r"\| a \| \d+\.\d\d \* \|", command.table([line]))


def test_the_command_renders_once_and_prints_a_row_for_each_film(tmp_path, capsys):
    asked = [
        "--folder",
        str(tmp_path),
        "--films",
        "720p H.264",
        "--seconds",
        "0.2",
        "--num-frames",
        "2",
        "--turns",
        "1",
    ]
    command.main(asked)
    (made,) = tmp_path.iterdir()
    when = made.stat().st_mtime_ns
    command.main(asked)
    assert made.stat().st_mtime_ns == when
    assert capsys.readouterr().out.count("| 720p H.264 |") == 2


def test_two_builds_read_the_same(film, monkeypatch):
    monkeypatch.setenv("SPECVLM_FILMS", str(film.parent))
    (found,) = compared("reading", OWN, OWN, 1)
    assert found.case == "a.mp4"
    assert found.same


@pytest.mark.parametrize("name", FILMS)
def test_every_kind_of_film_can_be_made(name, tmp_path):
    film = FILMS[name]
    path = rendered(film, 0.1, tmp_path / f"a.{film.suffix}")
    assert len(np.unique(straight(path, [0, 2])[0])) > 100
