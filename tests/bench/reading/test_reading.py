"""Readers of films, side by side: all that are here read what a straight decode shows, or a star says they don't."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import pairwise

import numpy as np
import pytest
from typer.testing import CliRunner

from specvlm.bench.builds.turns import OWN, compared
from specvlm.bench.performance import CHAPTERS
from specvlm.bench.reading import films, measuring
from specvlm.bench.reading.films import FILMS, rendered
from specvlm.bench.reading.measuring import Setup, measured
from specvlm.bench.reading.readers import OWN as OURS
from specvlm.bench.reading.readers import READERS, installed, straight
from specvlm.cli import app
from specvlm.errors import OptionError
from specvlm.video import load

PLACES = [0, 3, 4, 14]


def run(arguments):
    return CliRunner().invoke(app, arguments)


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
    lines = measured(film, {name: readers[name] for name in ("specvlm", "transformers")}, PLACES, 2)
    assert [(line.reader, line.same, len(line.seconds)) for line in lines] == [
        ("specvlm", True, 2),
        ("transformers", True, 2),
    ]


def test_a_reader_of_other_frames_is_told(film):
    def wrong(path, places):
        return straight(path, [place + 1 for place in places[:-1]] + [places[-1]])

    (line,) = measured(film, {"wrong": wrong}, PLACES, 1)
    assert not line.same


@pytest.mark.parametrize(
    "wrong",
    [
        {"films": ("720p Betamax",)},
        {"films": ()},
        {"repeats": 0},
        {"num_frames": 0},
        {"num_frames": 31, "seconds": 1.0},
    ],
)
def test_what_cannot_be_measured_is_refused(wrong):
    with pytest.raises(OptionError):
        Setup(**wrong)


def test_the_command_renders_once_and_writes_a_row_for_each_reader(tmp_path):
    asked = ["bench", "--reading", "--film", "720p H.264", "--film-seconds", "0.2", "--film-frames", "2"]
    asked += ["--repeats", "1", "--film-folder", str(tmp_path / "films"), "--out", str(tmp_path), "--json"]
    assert run(asked).exit_code == 0
    (made,) = (tmp_path / "films").iterdir()
    when = made.stat().st_mtime_ns
    said = run(asked).stdout
    assert made.stat().st_mtime_ns == when
    document = json.loads((tmp_path / "reading-2-frames.json").read_text())
    assert json.loads(said.splitlines()[-1])["films"] == document["films"]
    (found,) = document["films"]
    assert [line["reader"] for line in found["readers"]] == list(installed())
    grid = CHAPTERS["reading"](document)
    assert [row[0] for row in grid.rows] == [f"720p H.264: {name}" for name in installed()]
    assert {row[2] for row in grid.rows if "PyAV" in row[0] or "specvlm" in row[0]} == {"yes"}
    assert all(len(row) == len(grid.head) for row in grid.rows)
    answered = found["first_token"]
    assert 0 < sum(answered["stages"].values()) <= max(answered["from_frames"])
    assert "2 frames of films of 0.2 s" in grid.notes[0]


def test_what_was_measured_outlives_what_ends_it(tmp_path, monkeypatch):
    whole, films_left = measuring.first_token, iter(["720p H.264"])

    def answered(*arguments):
        if next(films_left, None) is None:
            raise OptionError("enough")
        return whole(*arguments)

    monkeypatch.setattr(measuring, "first_token", answered)
    asked = ["--film", "720p H.264", "--film", "720p VP9", "--film-seconds", "0.2", "--film-frames", "2"]
    assert run(["bench", "--reading", *asked, "--repeats", "1", "--out", str(tmp_path)]).exit_code == 2
    kept = json.loads((tmp_path / "reading-2-frames.json").read_text())
    assert [film["film"] for film in kept["films"]] == ["720p H.264"]


def test_it_goes_on_with_what_it_kept_and_loses_none_of_it(tmp_path, monkeypatch):
    def asked(*films: str) -> list[str]:
        named = [word for name in films for word in ("--film", name)]
        which = ["--film-seconds", "0.2", "--film-frames", "2", "--repeats", "1", "--out", str(tmp_path)]
        assert run(["bench", "--reading", *named, *which, "--film-folder", str(tmp_path / "films")]).exit_code == 0
        return [film["film"] for film in json.loads((tmp_path / "reading-2-frames.json").read_text())["films"]]

    assert asked("720p H.264") == ["720p H.264"]
    first = json.loads((tmp_path / "reading-2-frames.json").read_text())["films"][0]
    read, whole = [], measuring.measured
    monkeypatch.setattr(measuring, "measured", lambda path, *rest: read.append(path.name) or whole(path, *rest))
    assert asked("720p H.264", "720p VP9") == ["720p H.264", "720p VP9"]
    assert asked("720p VP9") == ["720p H.264", "720p VP9"]
    assert read == ["720p VP9 0.2 s.webm"]
    kept = tmp_path / "reading-2-frames.json"
    without_first = json.loads(kept.read_text())
    assert without_first["films"].pop(0) == first
    kept.write_text(json.dumps(without_first))
    assert asked("720p H.264", "720p VP9") == ["720p H.264", "720p VP9"]
    assert len(read) == 2
    assert json.loads(kept.read_text())["films"][1:] == without_first["films"]
    monkeypatch.setattr(measuring, "versions", lambda: {"av": "1"})
    assert asked("720p VP9") == ["720p VP9"]
    assert len(read) == 3


def test_a_peer_that_cannot_read_a_film_is_named_and_left_out(film):
    def broken(path, places):
        raise OSError("no frame 3")

    found = measuring.measured(film, {OURS: READERS[OURS][0], "OpenCV": broken}, [0, 5], 2)
    assert [(line.reader, line.same, line.problem) for line in found] == [
        (OURS, True, None),
        ("OpenCV", False, "OSError: no frame 3"),
    ]
    answered = {"from_file": [1.0], "from_frames": [0.5], "stages": dict.fromkeys(measuring.STAGES, 0.1)}
    about = {"num_frames": 2, "seconds": 1.0, "repeats": 2, "pair": "a pair"}
    document = {"reading": about, "machine": {"cpu": "a CPU", "cores": 2}, "versions": {}}
    shown = [{"film": "720p AV1", "readers": [asdict(line) for line in found], "first_token": answered}]
    grid = CHAPTERS["reading"](document | {"films": shown})
    assert grid.rows[1] == ("720p AV1: OpenCV", *["-"] * 6)
    assert "OpenCV gives no frames of 720p AV1: OSError: no frame 3." in grid.notes
    with pytest.raises(OSError, match="no frame 3"):
        measuring.measured(film, {OURS: broken}, [0, 5], 2)


def test_a_pair_is_not_measured_beside_films():
    refused = run(["bench", "--reading", "--pair", "pocket-qwen2_5_vl"])
    assert refused.exit_code == 2
    assert "leave out --pair" in refused.stderr


def test_long_films_come_again_after_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(films, "ENCODED", 0.2)
    path = rendered(FILMS["720p H.264, no B-frames"], 0.5, tmp_path / "a.mp4")
    frames = straight(path, range(15))
    assert np.array_equal(frames[:6], frames[6:12])
    assert np.array_equal(frames[:3], frames[12:])
    assert (frames[0] != frames[5]).any()
    assert load(path, num_frames=15).timestamps.tolist() == pytest.approx([place / 30 for place in range(15)])


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
