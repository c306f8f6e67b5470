"""specvlm eval, report and convert, from the data to the page."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from browsing import outside_requests, text_of
from evals.layouts import LAYOUTS, SUBSETS
from specvlm.cli import app
from specvlm.evals.run_folder import read_run


@pytest.fixture
def films(tmp_path: Path) -> Path:
    return LAYOUTS["folder"](tmp_path / "films")


@pytest.fixture
def evaluated(run: Callable, small: list, films: Path, tmp_path: Path) -> Callable:
    """Run `specvlm eval` on the folder of films; the result, and where the run is."""

    def invoke(*arguments: object):
        given = ["eval", "--task", "folder", "--data", films, "--out", tmp_path / "run", *small, *arguments]
        return run(*given), tmp_path / "run"

    return invoke


def test_a_run_is_a_folder(evaluated: Callable) -> None:
    result, out = evaluated()
    assert result.exit_code == 0, result.output
    assert result.stdout.count("plain speculation  ") >= 2  # a row in each table
    assert max(len(line) for line in result.stdout.splitlines() if not line.startswith("Report: ")) <= 80
    assert str(out / "report.html") in result.stdout.replace("\n", "")
    assert result.stderr.splitlines() == ["eval: 0 of 12 answers", "eval: 12 of 12 answers"]
    run = read_run(out)
    assert [(record["sample"], record["arm"]) for record in run.records] == [
        (str(sample), arm) for sample in range(3) for arm in ("ar", "sd", "specvlm", "auto")
    ]
    asked = run.config["asked"]
    assert asked["task"]["name"] == "folder"
    assert asked["models"]["dtype"] == "float32"
    [setting] = asked["settings"]
    assert setting["options"]["num_frames"] == 4
    [session] = run.config["sessions"]
    assert session.keys() == {"started", "machine", "versions"}
    metrics = json.loads((out / "metrics.json").read_text())
    arms = metrics["settings"]["default"]["arms"]
    assert {arm: found["identical"] for arm, found in arms.items()} == dict.fromkeys(("ar", "sd", "specvlm", "auto"), 3)
    assert arms["ar"]["scores"] == arms["specvlm"]["scores"]
    assert arms["ar"]["scores"].keys() == {"chrF++", "accuracy", "understood", "BLEU"}


def test_the_page_needs_nothing_beside_it(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    assert page.count("<picture>") == page.count('src="data:image/svg+xml;base64,') == 4
    assert outside_requests(page) == []
    assert "at no loss: all 6 answers are the same, token by token" in page
    assert "prefers-color-scheme: dark" in page
    assert "All arms gave the same answers" in page
    for outside in ("http://", "https://", "<script", '<link rel="stylesheet'):
        assert outside not in page


def test_the_pages_command_goes_on_with_the_run_and_asks_nothing_else(run: Callable, finished: Path) -> None:
    again = shlex.split(text_of((finished / "report.html").read_text(), "command"))
    assert again[:2] == ["specvlm", "eval"]
    assert again[-2:] == ["--out", finished.name]
    result = run(*again[1:-1], finished)  # a run takes nothing but what it was asked before
    assert result.exit_code == 0, result.output


def test_goes_on_and_does_nothing_twice(evaluated: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    _, out = evaluated()
    finished = (out / "results.jsonl").read_bytes()
    lines = finished.splitlines(keepends=True)
    (out / "results.jsonl").write_bytes(b"".join(lines[:4]) + lines[4][:50])
    result, _ = evaluated()
    assert result.exit_code == 0
    again = (out / "results.jsonl").read_bytes().splitlines(keepends=True)
    assert again[:4] == lines[:4]
    assert [json.loads(line)["token_ids"] for line in again] == [json.loads(line)["token_ids"] for line in lines]
    assert all(json.loads(line)["identical"] for line in again)
    monkeypatch.setattr("specvlm.pipeline.look", lambda **how: pytest.fail("a finished run needs no models"))
    result, _ = evaluated()
    assert result.exit_code == 0
    assert (out / "results.jsonl").read_bytes().splitlines(keepends=True) == again


def test_a_run_from_before_plans_were_the_default_goes_on_as_it_was_begun_or_not_at_all(evaluated: Callable) -> None:
    """What an arm means never changes within a run."""
    _, out = evaluated("--num-samples", 1, "--arms", "ar,specvlm")
    config = json.loads((out / "config.json").read_text())
    [setting] = config["asked"]["settings"]
    setting["options"] |= {"plan": "fixed", "tree": "dynamic"}
    (out / "config.json").write_text(json.dumps(config))
    result, _ = evaluated("--num-samples", 1, "--arms", "ar,specvlm")
    assert result.exit_code == 2
    assert 'settings[0].options.plan was "fixed" and is null now' in result.stderr
    result, _ = evaluated("--num-samples", 1, "--arms", "ar,specvlm", "--plan", "fixed", "--tree", "dynamic")
    assert result.exit_code == 0


def test_another_run_is_refused(evaluated: Callable) -> None:
    evaluated("--num-samples", 1)
    result, _ = evaluated("--num-samples", 2, "--max-new-tokens", 5)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "settings[0].options.max_new_tokens was 12 and is 5 now" in result.stderr
    assert "only task.num_samples may be raised" in result.stderr


def test_a_run_is_extended_killed_and_extended_again(evaluated: Callable) -> None:
    _, out = evaluated("--num-samples", 1)
    first = (out / "results.jsonl").read_bytes()
    result, _ = evaluated("--num-samples", 2)
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines()[0] == "eval: 0 of 4 answers"
    lines = (out / "results.jsonl").read_bytes().splitlines(keepends=True)
    assert b"".join(lines[:4]) == first
    (out / "results.jsonl").write_bytes(b"".join(lines[:5]) + lines[5][:50])
    result, _ = evaluated()  # all there are
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines()[0] == "eval: 0 of 7 answers"
    again = (out / "results.jsonl").read_bytes().splitlines(keepends=True)
    assert again[:5] == lines[:5]
    assert [(json.loads(line)["sample"], json.loads(line)["arm"]) for line in again] == [
        (str(sample), arm) for sample in range(3) for arm in ("ar", "sd", "specvlm", "auto")
    ]
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["num_samples"] == 3
    assert {found["num_answers"] for found in metrics["settings"]["default"]["arms"].values()} == {3}
    assert [found["identical"] for found in metrics["settings"]["default"]["arms"].values()] == [3, 3, 3, 3]
    assert read_run(out).config["asked"]["task"]["num_samples"] is None
    result, _ = evaluated("--num-samples", 2)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "task.num_samples was null and is 2 now" in result.stderr
    assert "not cut short" in result.stderr
    assert (out / "results.jsonl").read_bytes().splitlines(keepends=True) == again


def test_films_are_made_as_a_run_of_them_grows(run: Callable, tmp_path: Path, small: list) -> None:
    for number in (1, 2):
        given = ["eval", "--out", tmp_path / "run", "--num-samples", number, "--arms", "loop", *small]
        result = run(*given, "--max-new-tokens", 2)
        assert result.exit_code == 0, result.output
        assert len(list((tmp_path / "run" / "data" / "Test_Videos").iterdir())) == number
        assert [record["sample"] for record in read_run(tmp_path / "run").records] == ["0", "1"][:number]


def test_what_is_broken_is_told_and_survived(evaluated: Callable, films: Path) -> None:
    clips = {path: path.read_bytes() for path in (films / "clips").iterdir()}
    (films / "clips" / "0.mp4").unlink()
    (films / "clips" / "1.mp4").write_text("no film at all\n" * 100)
    with (films / "questions.csv").open("a") as file:
        file.write("clips/2.mp4,,\n")
    result, out = evaluated()
    assert result.exit_code == 0, result.output
    metrics = json.loads((out / "metrics.json").read_text())
    assert (metrics["num_samples"], metrics["num_broken"]) == (4, 3)
    errors = {broken["sample"]: broken["error"] for broken in metrics["broken"]}
    assert "0.mp4" in errors["0"]
    assert "VideoError" in errors["1"]
    assert "'question'" in errors["3"]
    assert "warning: 3 of 4 samples are broken" in result.stderr
    page = (out / "report.html").read_text()
    assert all(words in page for words in ("Broken samples", "VideoError"))
    for path, film in clips.items():  # the videos are there now
        path.write_bytes(film)
    result, _ = evaluated()
    assert "broken" in result.stderr
    result, _ = evaluated("--retry-broken")
    assert result.exit_code == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert [broken["sample"] for broken in metrics["broken"]] == ["3"]  # whose row is still no question


def test_nothing_to_answer(evaluated: Callable, films: Path) -> None:
    for film in (films / "clips").iterdir():
        film.write_text("no film\n")
    result, _ = evaluated()
    assert result.exit_code == 2
    assert "none of the 3 samples" in result.stderr


def test_an_arm_that_differs(evaluated: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    import specvlm

    real = specvlm.answering.oracle.generate_stock

    def lie(*arguments: object, **named: object):
        tokens, reason = real(*arguments, **named)
        return (tokens[0] + 1, *tokens[1:]), reason

    monkeypatch.setattr("specvlm.answering.oracle.generate_stock", lie)
    result, out = evaluated("--arms", "ar,specvlm")
    assert result.exit_code == 1
    assert "0: SpecVLM differs from token 0 on" in result.stderr
    page = (out / "report.html").read_text()
    assert "Arms differ on 3 of 3 samples" in page
    assert "3 of 3 answers differ from its own" in page
    assert "at no loss" not in page


@pytest.mark.parametrize(
    ("arguments", "naming"),
    [
        (("--task", "none_such"), "none_such"),
        (("--data", "/no/such/data"), "/no/such/data"),
        (("--arms", "ar,warp"), "warp"),
        (("--arms", ""), "arm"),
        (("--num-samples", "0"), "num-samples"),
        (("--subset", "action_sequence"), "action_sequence"),
        (("--pruning-ratio", "2"), "pruning_ratio"),
    ],
)
def test_errors_are_one_line(evaluated: Callable, arguments: tuple, naming: str) -> None:
    result, _ = evaluated(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert naming in result.stderr


def test_a_target_alone_has_no_arms_that_draft(run: Callable, films: Path, pair: Path, tmp_path: Path) -> None:
    alone = ("eval", "--task", "folder", "--data", films, "--out", tmp_path / "run", "--target", pair / "target")
    result = run(*alone, "--num-frames", 4, "--max-new-tokens", 8)
    assert result.exit_code == 2
    assert "draft" in result.stderr


def test_as_json(evaluated: Callable) -> None:
    result, out = evaluated("--json", "--num-samples", 1, "--arms", "ar")
    [line] = result.stdout.splitlines()
    document = json.loads(line)
    assert document["out"] == str(out)
    assert document["metrics"] == json.loads((out / "metrics.json").read_text())


@pytest.mark.part(2)
@pytest.mark.parametrize("task", LAYOUTS)
def test_each_published_layout(run: Callable, small: list, tmp_path: Path, task: str) -> None:
    data = LAYOUTS[task](tmp_path / "data")
    subsets = [word for subset in SUBSETS.get(task, ()) for word in ("--subset", subset)]
    given = ["--task", task, "--data", data, "--out", tmp_path / "run", "--num-samples", 2, *subsets, *small]
    result = run("eval", *given, "--max-new-tokens", 6)
    assert result.exit_code == 0, result.output
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    arms = metrics["settings"]["default"]["arms"]
    assert [found["identical"] for found in arms.values()] == [2] * 4
    assert metrics["num_broken"] == 0
    scores = {"video_detail_caption": {"chrF++", "BLEU"}, "folder": {"chrF++", "BLEU", "accuracy", "understood"}}
    assert arms["ar"]["scores"].keys() == scores.get(task, {"accuracy", "understood"})


@pytest.fixture(scope="module")
def finished(pair: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody changes."""
    folder = tmp_path_factory.mktemp("finished")
    films = LAYOUTS["folder"](folder / "films")
    models = ("--target", pair / "target", "--draft", pair / "draft", "--dtype", "float32")
    given = ("eval", "--task", "folder", "--data", films, "--out", folder / "run", "--num-frames", 4, *models)
    given = (*given, "--arms", "ar,sd,specvlm", "--max-new-tokens", 12)
    result = CliRunner().invoke(app, [str(argument) for argument in given])
    assert result.exit_code == 0, result.output
    return folder / "run"


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    """The same, to spoil."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


class TestReport:
    def test_says_what_differs(self, run: Callable, finished: Path, out: Path, tmp_path: Path) -> None:
        config = (out / "config.json").read_text()
        (out / "config.json").write_text(config.replace('"pruning_ratio": null', '"pruning_ratio": 0.5'))
        out = out.rename(tmp_path / "half")
        result = run("report", finished, out, "--html", tmp_path / "both.html")
        assert result.exit_code == 0, result.output
        said = [line for line in result.stdout.splitlines() if "half" in line]
        assert "settings.default.options.pruning_ratio: 0.5 in half" in said  # what was asked
        assert len(said) > 1  # and what came of it
        assert "pruning_ratio" in result.stdout
        page = (tmp_path / "both.html").read_text()
        assert "What they were asked differently" in page
        assert text_of(page, "command") == f"specvlm report {finished.name} half --html report.html"
        assert "pruning_ratio" in page

    def test_of_two_folders_with_one_name(self, run: Callable, finished: Path, out: Path) -> None:
        result = run("report", finished, out)
        assert result.exit_code == 0, result.output
        rows = [re.split(" {2,}", line.strip()) for line in result.stdout.splitlines()]
        assert sum("3 of 3" in row for row in rows) == 6

    def test_of_a_run_that_is_not_finished(self, run: Callable, out: Path) -> None:
        lines = (out / "results.jsonl").read_bytes().splitlines(keepends=True)
        (out / "results.jsonl").write_bytes(b"".join(lines[:2]) + b'{"torn')
        result = run("report", out, "--json")
        assert result.exit_code == 0, result.output
        [line] = result.stdout.splitlines()
        [found] = json.loads(line)
        arms = found["metrics"]["settings"]["default"]["arms"]
        assert [arm["num_answers"] for arm in arms.values()] == [1, 1, 0]

    def test_of_a_run_without_answers(self, run: Callable, out: Path, tmp_path: Path) -> None:
        (out / "results.jsonl").write_bytes(b"")
        result = run("report", out, "--html", tmp_path / "page.html")
        assert result.exit_code == 0, result.output

    def test_of_no_run(self, run: Callable, tmp_path: Path) -> None:
        result = run("report", tmp_path)
        assert result.exit_code == 2
        assert result.stderr.count("\n") == 1


class TestConvert:
    def test_prints_the_files(self, run: Callable, out: Path) -> None:
        result = run("convert", out, "--to", "paper")
        assert result.exit_code == 0, result.output
        files = [Path(line) for line in result.stdout.splitlines()]
        assert files == [out / "paper" / "results.jsonl", out / "paper" / "metric.jsonl"]
        assert all(file.is_file() for file in files)

    def test_to_a_folder_of_choice(self, run: Callable, finished: Path, tmp_path: Path) -> None:
        result = run("convert", finished, "--to", "spec-bench", "--out", tmp_path / "there")
        assert [Path(line).parent for line in result.stdout.splitlines()] == [tmp_path / "there"] * 3

    def test_no_such_form(self, run: Callable, finished: Path) -> None:
        result = run("convert", finished, "--to", "morse")
        assert result.exit_code == 2
        assert "spec-bench" in result.stderr


NAME = os.fsdecode(b"caf\xe9.mp4")
"""A name that is no UTF-8."""


@pytest.fixture
def odd(films: Path) -> Path:
    """A folder with a video whose name is no UTF-8, one that is called as a camcorder does, and a note."""
    (films / "questions.csv").unlink()
    (films / "clips" / "2.mp4").unlink()
    (films / "clips" / "1.mp4").rename(films / NAME)
    (films / "note.txt").write_text("nothing to see\n")
    return films


def test_names_that_are_no_utf_8_are_answered_and_reported(evaluated: Callable, odd: Path, run: Callable) -> None:
    result, out = evaluated("--json")
    assert result.exit_code == 0, result.output
    assert {record["sample"]: record["error"] for record in read_run(out).records} == {"clips/0.mp4": None, NAME: None}
    assert r"caf\udce9.mp4" in (out / "report.html").read_text(encoding="utf-8")
    assert "warning: not taken for videos" in result.stderr
    assert "note.txt" in result.stderr
    before = (out / "results.jsonl").read_bytes()
    assert evaluated()[0].exit_code == 0
    assert (out / "results.jsonl").read_bytes() == before
    again = run("report", out, "--html", out.parent / "page.html")
    assert again.exit_code == 0, again.output
    assert run("convert", out, "--to", "paper").exit_code == 0


def test_a_run_that_is_kept_beside_its_videos_adds_none(evaluated: Callable, odd: Path) -> None:
    for _ in range(2):
        result, _ = evaluated("--out", odd / "run", "--arms", "ar")
        assert result.exit_code == 0, result.output
        assert len(read_run(odd / "run").records) == 2


def test_a_broken_video_of_such_a_name_is_told(evaluated: Callable, odd: Path) -> None:
    (odd / NAME).write_bytes(b"no film\n" * 100)
    result, out = evaluated("--arms", "ar")
    assert result.exit_code == 0, result.output
    assert r"caf\udce9.mp4" in result.stderr
    [broken] = [record for record in read_run(out).records if record["error"]]
    assert broken["sample"] == NAME


@pytest.mark.parametrize("error", [RuntimeError("no\nroom"), RecursionError(), MemoryError(), KeyError("x")])
def test_whatever_a_sample_raises(evaluated: Callable, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    from specvlm.evals import evaluate

    real = evaluate._answered

    def sometimes(arm: str, generation: object):
        if arm == "sd":
            raise error
        return real(arm, generation)

    monkeypatch.setattr(evaluate, "_answered", sometimes)
    result, out = evaluated("--num-samples", 1)
    assert result.exit_code == 0, result.output
    errors = {record["arm"]: record["error"] for record in read_run(out).records}
    assert (errors["ar"], errors["specvlm"]) == (None, None)
    assert type(error).__name__ in errors["sd"]
    assert all(line.startswith(("warning: ", "eval: ")) for line in result.stderr.splitlines())


def test_questions_in_an_encoding_that_is_not_certain(evaluated: Callable, films: Path) -> None:
    (films / "questions.csv").write_bytes("video;question\n0;Wo ist die Tür?\n".encode("cp1252"))
    result, _ = evaluated()
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert all(word in result.stderr for word in ("questions.csv", "0xfc", "line 2", "UTF-8"))


def test_figures_come_before_what_may_fail(evaluated: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> str:
        raise RuntimeError("no ink")

    monkeypatch.setattr("specvlm.evals.reporting.plots.phases", fail)
    result, out = evaluated("--json", "--num-samples", 1)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["metrics"] == json.loads((out / "metrics.json").read_text())
    assert "no ink" in result.stderr


def test_nothing_is_written_over_a_run(run: Callable, finished: Path) -> None:
    before = (finished / "results.jsonl").read_bytes()
    for arguments in (
        ("convert", finished, "--to", "paper", "--out", finished),
        ("report", finished, "--html", finished / "results.jsonl"),
        ("report", finished, "--html", finished / "nowhere" / "page.html"),
        ("report", finished, "--html", finished),
    ):
        result = run(*arguments)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.output
        assert (finished / "results.jsonl").read_bytes() == before


@pytest.mark.parametrize("command", ["eval", "sweep"])
def test_data_without_its_task_stays_as_it_is(run: Callable, films: Path, tmp_path: Path, command: str) -> None:
    """The task that is meant without `--task` makes films, and would put them there."""
    (films / "test.jsonl").write_text("my own rows\n")
    before = {path: path.read_bytes() for path in films.rglob("*") if path.is_file()}
    result = run(command, "--data", films, "--out", tmp_path / "run", "--num-samples", 1)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.output
    assert "--task" in result.stderr
    assert {path: path.read_bytes() for path in films.rglob("*") if path.is_file()} == before


class TestLinksThatTheUserNames:
    """They are followed: whoever named them chose what they lead to."""

    def test_to_the_folder_of_a_run(self, evaluated: Callable, tmp_path: Path) -> None:
        (tmp_path / "disk").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "disk")
        result, _ = evaluated("--out", tmp_path / "link", "--num-samples", 1, "--arms", "ar")
        assert result.exit_code == 0, result.output
        assert (tmp_path / "link").is_symlink()
        assert len(read_run(tmp_path / "disk").records) == 1

    def test_to_a_page(self, run: Callable, finished: Path, tmp_path: Path) -> None:
        (tmp_path / "page.html").write_text("old")
        (tmp_path / "link.html").symlink_to(tmp_path / "page.html")
        result = run("report", finished, "--html", tmp_path / "link.html")
        assert result.exit_code == 0, result.output
        assert (tmp_path / "link.html").is_symlink()
        assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")

    def test_but_not_to_what_is_read(self, run: Callable, finished: Path, tmp_path: Path) -> None:
        (tmp_path / "link.html").symlink_to(finished / "results.jsonl")
        before = (finished / "results.jsonl").read_bytes()
        result = run("report", finished, "--html", tmp_path / "link.html")
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
        assert (finished / "results.jsonl").read_bytes() == before


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_page_is_a_file(run: Callable, finished: Path, tmp_path: Path, kind: str) -> None:
    """And takes the place of nothing else."""
    place = tmp_path / "page.html" if kind == "pipe" else Path("/dev/null")
    if kind == "pipe":
        os.mkfifo(place)
    before = place.stat()
    result = run("report", finished, "--html", place)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "regular file" in result.stderr
    assert os.path.samestat(place.stat(), before)


def test_records_that_are_taken_away_end_the_command(
    evaluated: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from specvlm.evals import evaluate

    real = evaluate._answered

    def takes_away(*given: object):
        (tmp_path / "run" / "results.jsonl").unlink(missing_ok=True)
        return real(*given)

    monkeypatch.setattr(evaluate, "_answered", takes_away)
    result, _ = evaluated()
    assert (result.exit_code, result.stdout) == (2, "")
    begun, error = result.stderr.splitlines()
    assert begun == "eval: 0 of 12 answers"
    assert "results.jsonl is gone" in error


def test_questions_that_were_edited_are_refused(evaluated: Callable, films: Path) -> None:
    evaluated("--arms", "ar")
    questions = (films / "questions.csv").read_text()
    (films / "questions.csv").write_text(questions.replace("How many", "Which"))
    result, _ = evaluated("--arms", "ar")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert all(words in result.stderr for words in ("row 2", "another one", "--out"))


def test_a_folder_of_something_else_is_no_run(run: Callable, pair: Path, films: Path) -> None:
    for arguments in (
        ("report", pair / "target"),
        ("convert", pair / "target", "--to", "paper"),
        ("eval", "--task", "folder", "--data", films, "--out", pair / "target"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2, result.output
        assert "no folder of a run" in result.stderr
