"""What is written is a file inside of the folder that was named, and nothing that was there to be read."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from evals.records import CONFIG, answered
from specvlm.answering.options import Options
from specvlm.errors import OptionError
from specvlm.evals.evaluate import Job, Record
from specvlm.evals.experiment import Experiment
from specvlm.evals.reporting.convert import convert
from specvlm.evals.run_folder import open_run, read_run
from specvlm.evals.settings import Setting
from specvlm.evals.sweeping.sweep import carry_out
from specvlm.evals.tasks import make_task
from specvlm.evals.writing import write_whole

ASKED, [SESSION] = CONFIG["asked"], CONFIG["sessions"]
TREASURE = "years of work\n"


@pytest.fixture
def treasure(tmp_path: Path) -> Path:
    """A file of somebody's, which nothing here may change."""
    path = tmp_path / "treasure" / "thesis.tex"
    path.parent.mkdir()
    path.write_text(TREASURE)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A run with a record."""
    with open_run(tmp_path / "run", ASKED, SESSION) as folder:
        folder.append(answered("0", "ar"))
    return tmp_path / "run"


def untouched(treasure: Path) -> bool:
    return treasure.read_text() == TREASURE and [each.name for each in treasure.parent.iterdir()] == [treasure.name]


OTHERS: dict[str, Callable[[Path, Path], None]] = {
    "a link": lambda path, treasure: path.symlink_to(treasure),
    "a pipe": lambda path, treasure: os.mkfifo(path),
    "a folder": lambda path, treasure: path.mkdir(),
}
"""What may stand in a file's place, by what it is called."""


class TestFiles:
    @pytest.mark.parametrize("kind", OTHERS)
    def test_take_the_place_of_no_other_thing(self, tmp_path: Path, treasure: Path, kind: str) -> None:
        OTHERS[kind](tmp_path / "page.html", treasure)
        before = (tmp_path / "page.html").lstat()
        with pytest.raises(OptionError, match=kind):
            write_whole(tmp_path / "page.html", "new")
        assert os.path.samestat((tmp_path / "page.html").lstat(), before)
        assert untouched(treasure)

    @pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
    def test_keep_their_mode(self, tmp_path: Path, mode: int) -> None:
        file = tmp_path / "page.html"
        file.write_text("old")
        file.chmod(mode)
        write_whole(file, "new")
        assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == ("new", mode)

    def test_are_not_written_through_a_link_beside(self, tmp_path: Path, treasure: Path) -> None:
        (tmp_path / ".page.html.new").symlink_to(treasure)
        write_whole(tmp_path / "page.html", "new")
        assert (tmp_path / "page.html").read_text() == "new"
        assert untouched(treasure)

    def test_that_a_kill_left_are_no_obstacle(self, tmp_path: Path) -> None:
        (tmp_path / ".page.html.new").write_text("half")
        write_whole(tmp_path / "page.html", "new")
        assert [entry.name for entry in tmp_path.iterdir()] == ["page.html"]


class TestARunOfSomebodyElses:
    @pytest.mark.parametrize("name", ["config.json", "results.jsonl", "metrics.json", "report.html", ".lock"])
    @pytest.mark.parametrize("kind", OTHERS)
    def test_is_refused_by_what_is_no_file(self, path: Path, treasure: Path, name: str, kind: str) -> None:
        if (name, kind) == ("config.json", "a link"):
            (path / name).rename(treasure.parent / name)
            (path / name).symlink_to(treasure.parent / name)
            before = (treasure.parent / name).read_text()
        else:
            (path / name).unlink(missing_ok=True)
            OTHERS[kind](path / name, treasure)
        with pytest.raises(OptionError, match=name.lstrip(".")), open_run(path, ASKED, SESSION) as folder:
            folder.write(name, "new")
        if (name, kind) == ("config.json", "a link"):
            assert (treasure.parent / name).read_text() == before
        else:
            assert untouched(treasure)

    def test_is_refused_by_a_file_that_is_elsewhere_too(self, path: Path, treasure: Path) -> None:
        (path / "results.jsonl").unlink()
        (path / "results.jsonl").hardlink_to(treasure)
        with pytest.raises(OptionError, match="hard link"), open_run(path, ASKED, SESSION):
            pass
        assert untouched(treasure)

    def test_is_not_waited_for_when_it_is_read(self, path: Path) -> None:
        (path / "results.jsonl").unlink()
        (path / "results.jsonl").symlink_to("/dev/zero")
        with pytest.raises(OptionError, match="no regular file"):
            read_run(path)

    @pytest.mark.parametrize("arm", ["/../../../treasure/thesis", "\\..\\x", "x\0y"])
    def test_names_no_file_outside(self, path: Path, treasure: Path, arm: str) -> None:
        (treasure.parent.parent / "there" / "run-").mkdir(parents=True)  # or else the system would refuse
        config = json.loads((path / "config.json").read_text())
        config["asked"]["settings"][0]["arms"].append(arm)
        (path / "config.json").write_text(json.dumps(config))
        (path / "results.jsonl").write_text("".join(json.dumps(answered("0", each)) + "\n" for each in ("ar", arm)))
        with pytest.raises(OptionError, match="no name of a file"):
            convert(read_run(path), "spec-bench", path.parent / "there")
        assert untouched(treasure)
        assert [each.name for each in (path.parent / "there").iterdir()] == ["run-"]

    def test_leads_a_conversion_nowhere_else(self, path: Path, treasure: Path) -> None:
        (path / "paper").symlink_to(treasure.parent)
        with pytest.raises(OptionError, match="paper is a link"):
            convert(read_run(path), "paper")
        assert untouched(treasure)

    def test_leads_no_films_elsewhere(self, tmp_path: Path, treasure: Path) -> None:
        make_task("pocket", data=str(tmp_path / "data")).samples(1)
        [film] = (tmp_path / "data" / "Test_Videos").iterdir()
        film.unlink()
        (film.parent / f".{film.name}").symlink_to(treasure)
        make_task("pocket", data=str(tmp_path / "data")).samples(1)
        assert film.is_file()
        assert untouched(treasure)
        film.unlink()
        film.parent.rmdir()
        film.parent.symlink_to(treasure.parent)
        with pytest.raises(OptionError, match="Test_Videos is a link"):
            make_task("pocket", data=str(tmp_path / "data")).samples(1)
        assert untouched(treasure)

    def test_leads_no_data_or_pictures_elsewhere(self, tmp_path: Path, treasure: Path) -> None:
        experiment = Experiment(task="pocket", num_samples=1, settings=(Setting(Options(), ("ar",)),))
        for name in ("data", "plots"):
            with open_run(tmp_path / name / "run", experiment.asked(), SESSION):
                pass
            (tmp_path / name / "run" / name).symlink_to(treasure.parent)
            with pytest.raises(OptionError, match=f"{name} is a link"):
                carry_out(experiment, tmp_path / name / "run", all_right)
            assert untouched(treasure)


def all_right(jobs: Sequence[Job]) -> Iterator[Record]:
    return (answered(job.sample.sample_id, arm) for job in jobs for arm in job.arms)


class TestConversions:
    def test_write_over_no_file_in_a_folder_of_choice(self, path: Path, treasure: Path) -> None:
        (treasure.parent / "metric.jsonl").write_text(TREASURE)
        with pytest.raises(OptionError, match="metric"):
            convert(read_run(path), "paper", treasure.parent)
        assert sorted(each.name for each in treasure.parent.iterdir()) == ["metric.jsonl", "thesis.tex"]
        assert (treasure.parent / "metric.jsonl").read_text() == TREASURE

    def test_can_be_made_again(self, path: Path) -> None:
        for out in (None, path.parent / "there"):
            files = convert(read_run(path), "paper", out)
            assert convert(read_run(path), "paper", out) == files

    def test_of_a_run_that_went_on_take_the_place_of_its_own(self, path: Path) -> None:
        convert(read_run(path), "paper")
        with open_run(path, ASKED, SESSION) as folder:
            folder.append(answered("1", "ar"))
        assert len(convert(read_run(path), "paper")[0].read_text().splitlines()) == 2

    def test_are_no_records_of_another_run(self, path: Path) -> None:
        with open_run(path.parent / "other", ASKED, SESSION):
            pass
        with pytest.raises(OptionError, match="the folder of a run"):
            convert(read_run(path), "spec-bench", path.parent / "other")


class TestFilms:
    @pytest.mark.parametrize(
        "name", ["test.jsonl", "clip.mp4", "Test_Videos/film_000000.mp4", "test-00000-of-00001.parquet"]
    )
    def test_are_put_beside_nothing_else(self, treasure: Path, name: str) -> None:
        data = treasure.parent
        (data / name).parent.mkdir(exist_ok=True)
        treasure.rename(data / name)
        with pytest.raises(OptionError, match="--task folder"):
            make_task("pocket", data=str(data)).samples(1)
        assert [each.relative_to(data).as_posix() for each in data.rglob("*") if each.is_file()] == [name]
        assert (data / name).read_text() == TREASURE

    def test_are_never_fewer_and_the_same_for_each_run(self, tmp_path: Path) -> None:
        task = make_task("pocket", data=str(tmp_path / "data"))
        few = task.samples(1, 7)
        many = make_task("pocket", data=str(tmp_path / "data")).samples(3, 7)
        assert make_task("pocket", data=str(tmp_path / "data")).samples(1, 7) == few
        assert len(many) == len((tmp_path / "data" / "test.jsonl").read_text().splitlines()) == 3

    def test_that_a_kill_interrupted_are_finished(self, tmp_path: Path) -> None:
        samples = make_task("pocket", data=str(tmp_path / "data")).samples(2)
        Path(samples[1].video).unlink()
        assert make_task("pocket", data=str(tmp_path / "data")).samples(2) == samples

    def test_beyond_those_that_there_are(self, tmp_path: Path) -> None:
        with pytest.raises(OptionError, match="num_samples"):
            make_task("pocket", data=str(tmp_path / "data")).samples(10**6)


def taken_away(results: Path) -> None:
    results.unlink()


def replaced(results: Path) -> None:
    content = results.read_bytes()
    results.unlink()
    results.write_bytes(content)


def cut(results: Path) -> None:
    os.truncate(results, 5)


def emptied_with_its_folder(results: Path) -> None:
    results.parent.rename(results.parent.with_name("elsewhere"))


def written_by_another(results: Path) -> None:
    with results.open("a") as file:
        file.write("{}\n")


@pytest.mark.parametrize("spoil", [taken_away, replaced, cut, emptied_with_its_folder, written_by_another])
@pytest.mark.parametrize("late", [False, True])
def test_records_that_are_taken_away_are_missed(tmp_path: Path, spoil: Any, late: bool) -> None:
    """While the run goes on, and between its last record and its metrics."""
    experiment = Experiment(task="pocket", num_samples=2, settings=(Setting(Options(), ("ar",)),))
    results = tmp_path / "run" / "results.jsonl"

    def engine(jobs: Sequence[Job]) -> Iterator[Record]:
        records = list(all_right(jobs))
        yield records[0]
        if not late:
            spoil(results)
        yield records[1]
        if late:
            spoil(results)

    with pytest.raises(OptionError, match=r"results\.jsonl.* while the run went on"):
        experiment.carry_out(tmp_path / "run", engine)
    assert not (tmp_path / "run" / "metrics.json").exists()
