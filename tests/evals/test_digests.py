"""A row is known by its content: answers of two versions of the data are never mixed under one number."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from evals.layouts import film
from evals.records import answered
from specvlm.answering.options import Options
from specvlm.errors import OptionError
from specvlm.evals.evaluate import Job, Record
from specvlm.evals.experiment import Experiment
from specvlm.evals.run_folder import Run, read_run
from specvlm.evals.settings import Setting
from specvlm.evals.sweeping.sweep import carry_out

Rows = list[dict[str, Any]]
ROWS: Rows = [
    {"video": "a.mp4", "question": "Which one?", "candidates": ["red", "green"], "answer": "red"},
    {"video": "a.mp4", "question": "How many?", "candidates": ["one", "two"], "answer": "two"},
    {"video": "b.mp4", "question": "Where?", "candidates": ["left", "right"], "answer": "left"},
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for number, name in enumerate(("a", "b")):
        film(tmp_path / "data" / f"{name}.mp4", number)
    write(tmp_path / "data", ROWS)
    return tmp_path / "data"


def write(data: Path, rows: Rows) -> None:
    (data / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def all_right(jobs: Sequence[Job]) -> Iterator[Record]:
    return (answered(job.sample.sample_id, arm) for job in jobs for arm in job.arms)


def start(data: Path, *, num_samples: int | None = None, arms: tuple[str, ...] = ("ar", "sd"), **how: Any) -> Run:
    setting = Setting(Options(), arms)
    options = {"data": str(data)}
    experiment = Experiment(task="folder", task_options=options, num_samples=num_samples, settings=(setting,))
    return experiment.carry_out(data.parent / "run", how.pop("engine", all_right), **how)


def half(jobs: Sequence[Job]) -> Iterator[Record]:
    yield from all_right(jobs[:2])
    raise KeyboardInterrupt


@pytest.fixture
def begun(data: Path) -> Path:
    """Data of which two rows are answered, and one isn't."""
    with pytest.raises(KeyboardInterrupt):
        start(data, engine=half)
    return data


EDITS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "a question": ("0", lambda data: write(data, [ROWS[0] | {"question": "Which two?"}, *ROWS[1:]])),
    "an answer": ("1", lambda data: write(data, [ROWS[0], ROWS[1] | {"answer": "one"}, ROWS[2]])),
    "an option": ("1", lambda data: write(data, [ROWS[0], ROWS[1] | {"candidates": ["two", "six"]}, ROWS[2]])),
    "a video's name": ("0", lambda data: write(data, [ROWS[0] | {"video": "b.mp4"}, *ROWS[1:]])),
    "a video": ("0", lambda data: film(data / "a.mp4", 5)),
    "a row in front": ("0", lambda data: write(data, [ROWS[2], *ROWS])),
    "the order": ("0", lambda data: write(data, ROWS[::-1])),
    "a row less": ("1", lambda data: write(data, [ROWS[0], ROWS[2]])),
    "the end": ("1", lambda data: write(data, ROWS[:1])),
}


@pytest.mark.parametrize("edit", EDITS)
def test_what_changed_between_two_starts_is_refused(begun: Path, edit: str) -> None:
    row, change = EDITS[edit]
    before = read_run(begun.parent / "run").records
    change(begun)
    with pytest.raises(OptionError, match=f"row {row} .*(another one|not there).* new --out"):
        start(begun)
    assert read_run(begun.parent / "run").records == before


def test_as_it_was_it_goes_on(begun: Path) -> None:
    EDITS["the order"][1](begun)
    write(begun, ROWS)
    assert len(start(begun).records) == 6


def test_rows_that_follow_are_answered_too(begun: Path) -> None:
    write(begun, [*ROWS, ROWS[0]])
    assert [record["sample"] for record in start(begun).records] == [each for each in "0123" for _ in ("ar", "sd")]


def test_what_has_no_answer_may_be_mended(begun: Path) -> None:
    write(begun, [*ROWS[:2], ROWS[2] | {"video": "c.mp4"}])
    assert start(begun).records[-1]["error"]
    write(begun, [*ROWS[:2], ROWS[2] | {"question": "Where else?"}])
    assert [record["error"] for record in start(begun, retry_broken=True).records[-2:]] == [None, None]


def test_videos_that_are_gone_or_elsewhere_keep_their_answers(begun: Path) -> None:
    (begun / "a.mp4").rename(begun.parent / "a.mp4")
    assert len(start(begun).records) == 6
    (begun / "clips").mkdir()
    (begun.parent / "a.mp4").rename(begun / "clips" / "a.mp4")
    assert len(start(begun).records) == 6


def test_a_part_of_the_data_may_lack_rows_that_come_later(data: Path) -> None:
    """Of so many samples: a video that wasn't there when they were begun shifts none of them."""
    (data / "a.mp4").rename(data.parent / "a.mp4")
    start(data, num_samples=1)
    (data.parent / "a.mp4").rename(data / "a.mp4")
    start(data, num_samples=1, retry_broken=True)
    write(data, ROWS[:1])
    start(data, num_samples=1)


def test_rows_are_gone_where_there_are_fewer_than_wanted(data: Path) -> None:
    start(data, num_samples=3)
    write(data, ROWS[:2])
    with pytest.raises(OptionError, match=r"row 2 .*not there"):
        start(data, num_samples=3)


def test_pictures_of_a_folder_count_as_its_video(data: Path) -> None:
    from PIL import Image

    (data / "frames").mkdir()
    for number in range(3):
        Image.new("RGB", (8, 8)).save(data / "frames" / f"{number}.png")
    write(data, [{"video": "frames", "question": "What?"}])
    start(data)
    start(data)
    Image.new("RGB", (8, 9), "red").save(data / "frames" / "1.png")
    with pytest.raises(OptionError, match=r"row 0 .*another one"):
        start(data)


def test_a_sweep_refuses_the_same(begun: Path) -> None:
    setting = Setting(Options(), ("ar", "sd"))
    experiment = Experiment(task="folder", task_options={"data": str(begun)}, settings=(setting,))
    EDITS["a row in front"][1](begun)
    with pytest.raises(OptionError, match=r"row 0 .*another one"):
        carry_out(experiment, begun.parent / "run", all_right)


def test_half_answered_rows_are_as_they_were(data: Path) -> None:
    """An arm that is left would be compared with the answer to another question."""

    def one_arm(jobs: Sequence[Job]) -> Iterator[Record]:
        yield next(all_right(jobs))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(data, engine=one_arm)
    EDITS["a question"][1](data)
    with pytest.raises(OptionError, match="row 0"):
        start(data)
