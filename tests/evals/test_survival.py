"""Nothing that a row, a name or an answer holds ends a run: it is recorded, survived, and known on resuming."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from evals.layouts import film
from evals.records import CONFIG, answered
from evals.test_runner import SAMPLES, SETTING, answers
from specvlm.answering.options import Options
from specvlm.errors import OptionError
from specvlm.evals.evaluate import Job, Record
from specvlm.evals.experiment import Experiment
from specvlm.evals.reporting.metrics import metrics_of
from specvlm.evals.reporting.report import report_html
from specvlm.evals.run_folder import open_run, read_run
from specvlm.evals.runner import pending, run
from specvlm.evals.sample import Sample, Scores
from specvlm.evals.settings import Setting
from specvlm.evals.tasks import Folder, Task, make_task

NAME = os.fsdecode(b"caf\xe9.mp4")
"""A name that is no UTF-8, as Python has it: with half a letter."""
ASKED, [SESSION] = CONFIG["asked"], CONFIG["sessions"]


def carry_out(path: Path, task: Task, samples: Sequence[Sample], engine: Any = answers) -> list[Record]:
    with open_run(path, ASKED, SESSION) as folder:
        run(folder, task, samples, pending(samples, [SETTING], folder.records), engine)
    return read_run(path).records


@pytest.fixture
def task(tmp_path: Path) -> Task:
    (tmp_path / "data").mkdir()
    return make_task("mlvu", data=str(tmp_path / "data"))


class TestNamesThatAreNoUtf8:
    SAMPLE = Sample(sample_id=NAME, video=f"/films/{NAME}", question="\udcff?", choices=("red", "\ud800"), answer="A")

    def test_are_recorded_as_json_has_them_and_known_again(self, tmp_path: Path, task: Task) -> None:
        records = carry_out(tmp_path / "run", task, [self.SAMPLE])
        written = (tmp_path / "run" / "results.jsonl").read_bytes().decode()  # UTF-8, whatever is in it
        assert r"caf\udce9.mp4" in written
        assert [(record["sample"], record["error"]) for record in records] == [(NAME, None)] * 3
        assert pending([self.SAMPLE], [SETTING], records) == []
        assert carry_out(tmp_path / "run", task, [self.SAMPLE], never) == records

    def test_are_in_the_metrics_and_on_the_page(self, tmp_path: Path, task: Task) -> None:
        asked = ASKED | {"task": {**ASKED["task"], "data": NAME}}
        for _ in range(2):  # the second time it is the same run
            with open_run(tmp_path / "run", asked, SESSION) as folder:
                jobs = pending([self.SAMPLE], [SETTING], folder.records)
                run(folder, task, [self.SAMPLE], jobs, answers)
                finished = folder.as_run()
                folder.write("metrics.json", json.dumps(metrics_of(finished), ensure_ascii=False))
                folder.write("report.html", report_html([finished]))
        assert r"caf\udce9.mp4" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
        assert json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))["num_samples"] == 1

    def test_of_files_are_found(self, tmp_path: Path) -> None:
        film(tmp_path / "film.mp4", 0)
        (tmp_path / "film.mp4").rename(tmp_path / NAME)
        [sample] = make_task("folder", data=str(tmp_path)).samples()
        assert sample.sample_id == NAME
        assert Path(sample.video).is_file()


def never(jobs: Sequence[Job]) -> Iterator[Record]:
    raise AssertionError(jobs)


class TestAnswersThatAreOdd:
    @pytest.mark.parametrize("error", [ValueError("x" * 9999), RuntimeError("no"), RecursionError(), MemoryError()])
    def test_grading_fails(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, task: Task) -> None:
        def score(self: Task, sample: Sample, text: str) -> Scores:
            if text and sample.sample_id == "1":
                raise error
            return {}

        monkeypatch.setattr(type(task), "score", score)
        records = carry_out(tmp_path / "run", task, SAMPLES)
        assert [bool(record["error"]) for record in records] == [False] * 3 + [True] * 3 + [False] * 3
        assert type(error).__name__ in records[3]["error"]
        assert len(records[3]["error"]) < 700
        assert carry_out(tmp_path / "run", task, SAMPLES, never) == records

    def test_grading_could_never_work(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: Task) -> None:
        """Then nothing is answered in vain."""

        def score(self: Task, sample: Sample, text: str) -> Scores:
            return {"length": (float(sample.sample_id), 1 / (float(sample.sample_id) - 1))}

        monkeypatch.setattr(type(task), "score", score)
        asked = []

        def engine(jobs: Sequence[Job]) -> Iterator[Record]:
            asked.extend(job.sample.sample_id for job in jobs)
            return answers(jobs)

        records = carry_out(tmp_path / "run", task, SAMPLES, engine)
        assert asked == ["0", "2"]
        assert (records[0]["sample"], records[0]["arm"]) == ("1", None)
        assert "ZeroDivisionError" in records[0]["error"]

    def test_a_library_without_which_none_can_be_graded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is missed before the first answer, whichever sample needs it."""
        monkeypatch.setitem(__import__("sys").modules, "sacrebleu", None)
        samples = [SAMPLES[0], Sample(sample_id="9", video="x", question="?", answer="a red ball")]
        with pytest.raises(OptionError, match="sacrebleu"):
            carry_out(tmp_path / "run", Folder(data=str(tmp_path)), samples, never)

    def test_a_figure_that_json_has_no_word_for(self, tmp_path: Path, task: Task) -> None:
        def engine(jobs: Sequence[Job]) -> Iterator[Record]:
            for job in jobs:
                for arm in job.arms:
                    strange = {"peak": float("nan")} if job.sample.sample_id == "1" and arm == "sd" else {}
                    yield answered(job.sample.sample_id, arm) | strange

        records = carry_out(tmp_path / "run", task, SAMPLES, engine)
        assert [(record["sample"], record["arm"]) for record in records if record["error"]] == [("1", "sd")]
        assert len(records) == 9


class TestRowsThatAreOdd:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        film(tmp_path / "film.mp4", 0)
        return tmp_path

    @pytest.mark.parametrize(
        "line",
        [
            "[" * 100_000,
            json.dumps({"video": "film.mp4", "question": ["?"] * 9999}),
            json.dumps({"video": "film.mp4", "question": {"a": "b" * 99999}}),
            json.dumps({"video": "\x00.mp4", "question": "?"}),
            json.dumps({"video": "x" * 5000, "question": "?"}),
            json.dumps(["word"] * 9999),
        ],
    )
    def test_are_told_in_a_line(self, folder: Path, line: str) -> None:
        sound = json.dumps({"video": "film.mp4", "question": "\ud800 what?"})
        (folder / "questions.jsonl").write_text(f"{line}\n{sound}\n")
        broken, right = make_task("folder", data=str(folder)).samples()
        assert broken.problem is not None
        assert len(broken.problem) < 700
        assert (right.problem, right.question) == (None, "\ud800 what?")

    @pytest.mark.parametrize("error", [ValueError("x"), KeyError("y"), RecursionError(), MemoryError()])
    def test_whatever_the_task_makes_of_them(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        def sample(self: Task, row: Any) -> Sample:
            if row.row_id == "0":
                raise error
            return Sample(sample_id=row.row_id)

        monkeypatch.setattr(Folder, "sample", sample)
        (folder / "questions.csv").write_text("video,question\nfilm,a?\nfilm,b?\n")
        broken, right = make_task("folder", data=str(folder)).samples()
        assert type(error).__name__ in (broken.problem or "")
        assert right.problem is None

    def test_a_time_that_is_none(self, tmp_path: Path) -> None:
        film(tmp_path / "perception" / "videos" / "film.mp4", 0)
        row = {"video": "film.mp4", "question": "?", "candidates": ["a", "b"], "answer": "a", "start": 0, "end": 1}
        (tmp_path / "json").mkdir()
        (tmp_path / "json" / "object_shuffle.json").write_text(json.dumps([row | {"start": "soon"}, row]))
        broken, right = make_task("mvbench", data=str(tmp_path), subsets=("object_shuffle",)).samples()
        assert "soon" in (broken.problem or "")
        assert right.problem is None


QUESTION = "Où est l’été: à gauche, „oben“ или 左?"


class TestFilesOfSpreadsheets:
    @pytest.fixture
    def ask(self, tmp_path: Path) -> Callable[..., list[Sample]]:
        def samples(content: bytes, name: str = "questions.csv") -> list[Sample]:
            film(tmp_path / "film.mp4", 0)
            (tmp_path / name).write_bytes(content)
            return make_task("folder", data=str(tmp_path)).samples()

        return samples

    @pytest.mark.parametrize("separator", [",", ";", "\t"])
    @pytest.mark.parametrize(
        ("mark", "encoding"),
        [
            (b"", "utf-8"),
            (b"\xef\xbb\xbf", "utf-8"),
            (b"\xff\xfe", "utf-16-le"),
            (b"\xfe\xff", "utf-16-be"),
            (b"", "utf-16-le"),
            (b"", "utf-16-be"),
            (b"\xff\xfe\x00\x00", "utf-32-le"),
        ],
    )
    @pytest.mark.part(3)
    @pytest.mark.parametrize("end", ["\r\n", "\n", "\r"])
    def test_are_read(self, ask: Callable, separator: str, mark: bytes, encoding: str, end: str) -> None:
        text = f'video{separator} question {separator}answer{end}film.mp4{separator}"{QUESTION}"{separator}{end}'
        [sample] = ask(mark + text.encode(encoding))
        assert (sample.problem, sample.question) == (None, QUESTION)

    def test_with_their_separator_noted_down(self, ask: Callable) -> None:
        [sample] = ask(f"sep=;\r\nvideo;question\r\nfilm;{QUESTION}\r\n".encode())
        assert sample.question == QUESTION

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "utf-32"])
    @pytest.mark.parametrize("name", ["questions.json", "questions.jsonl"])
    def test_of_json(self, ask: Callable, encoding: str, name: str) -> None:
        row = json.dumps({"video": "film", "question": QUESTION}, ensure_ascii=False)
        text = f"[{row}, {row}]" if name.endswith("json") else f"{row}\n{row}\n"
        assert [sample.question for sample in ask(text.encode(encoding), name)] == [QUESTION] * 2

    @pytest.mark.parametrize(
        ("content", "name", "words"),
        [
            (
                "video;question\nfilm;Wo ist die Tür?\n".encode("cp1252"),
                "questions.csv",
                ("0xfc", "line 2", "CSV UTF-8"),
            ),
            ('[{"video": "film", "question": "Tür"}]'.encode("cp1252"), "questions.json", ("0xfc", "line 1", "UTF-8")),
            (b"PK\x03\x04" + b"\x00" * 99, "questions.csv", ("workbook", "CSV UTF-8")),
            (b"\xd0\xcf\x11\xe0" + b"\x00" * 99, "questions.csv", ("workbook", "CSV UTF-8")),
            (b"film,frage\nfilm,was?\n", "questions.csv", ("'video'", "'question'", "film, frage")),
            (b"", "questions.csv", ("no rows",)),
            (b"PAR1 but not really", "questions.parquet", ("parquet",)),
            (b"[" * 100_000, "questions.json", ("JSON",)),
        ],
    )
    def test_or_refused_in_a_line(self, ask: Callable, content: bytes, name: str, words: tuple[str, ...]) -> None:
        with pytest.raises(OptionError) as refused:
            ask(content, name)
        message = str(refused.value)
        assert "\n" not in message
        for word in (*words, name):
            assert word in message

    def test_a_line_that_is_no_utf_8_spoils_only_itself(self, ask: Callable) -> None:
        line = '{"video": "film", "question": "Tür?"}\n'
        broken, right = ask(line.encode("cp1252") + line.encode(), "questions.jsonl")
        assert "0xfc" in broken.problem
        assert right.question == "Tür?"

    def test_a_cell_that_is_too_long_spoils_only_itself(self, ask: Callable) -> None:
        broken, right = ask(b"video,question\nfilm," + b"x" * 200_000 + b"\nfilm,what?\n")
        assert "csv" in broken.problem
        assert right.question == "what?"

    def test_a_file_is_no_folder(self, tmp_path: Path) -> None:
        (tmp_path / "questions.csv").write_text("video,question\n")
        with pytest.raises(OptionError, match="is a file: name the folder"):
            make_task("folder", data=str(tmp_path / "questions.csv"))


class TestReports:
    @pytest.fixture
    def films(self, tmp_path: Path) -> Path:
        film(tmp_path / "films" / "film.mp4", 0)
        return tmp_path / "films"

    def test_that_fail_lose_no_figures(self, films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> str:
            raise RuntimeError("no ink")

        monkeypatch.setattr("specvlm.evals.reporting.plots.phases", fail)
        experiment = Experiment(
            task="folder", task_options={"data": str(films)}, settings=(Setting(Options(), ("ar",)),)
        )
        notes: list[str] = []

        def engine(jobs: Sequence[Job]) -> Iterator[Record]:
            return (answered(job.sample.sample_id, "ar") for job in jobs)

        finished = experiment.carry_out(tmp_path / "run", engine, on_note=notes.append)
        assert len(finished.records) == 1
        assert (tmp_path / "run" / "metrics.json").exists()
        assert any("no ink" in note for note in notes)


def test_a_config_of_something_else_is_no_runs(tmp_path: Path) -> None:
    """Checkpoints have a file of that name too."""
    for config in ({"model_type": "qwen2_vl"}, [], {"asked": 1}):
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(OptionError, match="no folder of a run"):
            read_run(tmp_path)
        with pytest.raises(OptionError, match="no folder of a run"), open_run(tmp_path, ASKED, SESSION):
            pass
    (tmp_path / "config.json").write_text(json.dumps({"asked": ASKED | {"task": {"name": "gone"}}, "sessions": []}))
    with pytest.raises(OptionError, match="gone"):
        metrics_of(read_run(tmp_path))
