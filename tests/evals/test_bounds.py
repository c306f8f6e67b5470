"""Data that leads in circles, to the kernel, or on without end."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from evals.layouts import film
from specvlm.errors import OptionError, VideoError
from specvlm.evals import decoding, rows
from specvlm.evals.rows import UnreadableRowError
from specvlm.evals.tasks import make_task
from specvlm.evals.tasks.lettering import listed
from specvlm.video import load
from specvlm.video.files.kernel import of_the_kernel


def names(root: Path) -> list[str]:
    return [str(sample.sample_id) for sample in make_task("folder", data=str(root)).samples()]


def test_folders_that_lead_back_to_themselves(tmp_path: Path):
    film(tmp_path / "a" / "one.mp4", 0)
    (tmp_path / "a" / "up").symlink_to("..")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "self").symlink_to("self")
    assert names(tmp_path) == ["a/one.mp4", "b/one.mp4"]


def test_folders_each_of_which_leads_to_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("specvlm.video.files.walking.MOST", 1000)
    for name in range(8):
        (tmp_path / str(name)).mkdir()
        for other in range(8):
            (tmp_path / str(name) / f"to{other}").symlink_to(f"../{other}")
    with pytest.raises(OptionError, match="leads to more than 1,000 files and folders"):
        names(tmp_path)


def test_folders_deeper_than_any_path(tmp_path: Path):
    film(tmp_path / "one.mp4", 0)
    here, name = os.open(tmp_path, os.O_RDONLY), "d" * 200
    for _ in range(30):
        os.mkdir(name, dir_fd=here)
        inner = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    assert names(tmp_path) == ["one.mp4"]


@pytest.mark.parametrize("place", ["/proc", "/sys"])
def test_what_the_kernel_shows_of_itself_holds_no_videos(tmp_path: Path, place: str):
    if not of_the_kernel(Path(place)):
        assert not os.path.ismount(place)  # a system without it
        return
    film(tmp_path / "one.mp4", 0)
    (tmp_path / "kernel").symlink_to(place)
    assert names(tmp_path) == ["one.mp4"]
    with pytest.raises(OptionError, match="holds no rows"):
        names(Path(place))


def test_a_file_of_the_kernel_is_not_waited_for(tmp_path: Path):
    kernel = Path("/proc/self/status")
    assert of_the_kernel(kernel) == kernel.exists()
    (tmp_path / "film.mp4").symlink_to(kernel)
    with pytest.raises(VideoError, match=r"neither a file nor a folder|there is no file"):
        load(tmp_path / "film.mp4")
    (tmp_path / "questions.jsonl").symlink_to(kernel)
    with pytest.raises(OptionError, match=r"read twice|holds no rows|no video"):
        names(tmp_path)


def test_a_line_without_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rows, "LONGEST", 1000)
    film(tmp_path / "one.mp4", 0)
    row = json.dumps({"video": "one.mp4", "question": "?"})
    (tmp_path / "questions.jsonl").write_text(f"{row}\n{'a' * 5000}\n{row}\n")
    problems = [sample.problem for sample in make_task("folder", data=str(tmp_path)).samples()]
    assert problems[0] is None
    assert "a line of more than" in str(problems[1])
    assert len(problems) == 2


@pytest.mark.parametrize("name", ["questions.json", "questions.csv"])
def test_a_file_that_is_larger_than_what_is_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setattr(decoding, "MOST_BYTES", 2**20)
    (tmp_path / name).touch()
    os.truncate(tmp_path / name, 2**36)
    with pytest.raises(OptionError, match=f"{name} has 65536 MiB, and more than 1 are not read at once"):
        names(tmp_path)


def test_no_library_has_its_own_say_about_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    said: list[logging.LogRecord] = []
    monkeypatch.setattr(logging.Logger, "handle", lambda self, record: said.append(record))
    (tmp_path / "questions.parquet").write_bytes(b"PAR1" + bytes(100) + b"none")
    with pytest.raises(OptionError, match="is no parquet file"):
        names(tmp_path)
    assert said == []


def test_more_options_than_letters(tmp_path: Path):
    choices = tuple(f"option {number}" for number in range(27))
    assert listed(choices[:26], "{letter}{choice}").endswith("Zoption 25")
    with pytest.raises(UnreadableRowError, match="27 options, and letters for 26"):
        listed(choices, "{letter}{choice}")
    film(tmp_path / "one.mp4", 0)
    row = {"video": "one.mp4", "question": "?", "candidates": choices, "answer": choices[26]}
    (tmp_path / "questions.jsonl").write_text(json.dumps(row))
    [sample] = make_task("folder", data=str(tmp_path)).samples()
    assert "27 options" in str(sample.problem)
