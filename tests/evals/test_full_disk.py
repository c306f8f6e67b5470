"""The system says no: whatever was recorded before is kept, and the run goes on when there is room again."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from evals.records import CONFIG, answered
from specvlm.cli.ending import code_and_line
from specvlm.errors import OptionError, SpecVLMError
from specvlm.evals.run_folder import open_run, read_run
from specvlm.evals.writing import write_whole
from specvlm.video.files.addresses import at_home

ASKED, [SESSION] = CONFIG["asked"], CONFIG["sessions"]
RECORDS = [answered(str(number), "ar") for number in range(40)]


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """No file grows beyond it: a write takes what fits, and the next one fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def somebody() -> Iterator[None]:
    """Whoever may do anything becomes somebody who may not."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def work(path: Path) -> tuple[list[str], str | None]:
    """Append the records that are left, and metrics: which were appended, and what is told of the end."""
    done: list[str] = []
    try:
        with open_run(path, ASKED, SESSION) as folder:
            for record in RECORDS[len(folder.records) :]:
                folder.append(record)
                done.append(record["sample"])
            folder.write("metrics.json", "x" * 10_000)
    except (SpecVLMError, OSError) as error:
        code, line = code_and_line(error)
        assert (code, line.count("\n")) == (2, 0)
        return done, line
    return done, None


def test_a_disk_that_is_full_again_and_again_loses_nothing(tmp_path: Path) -> None:
    path, kept = tmp_path / "run", []
    sizes = [len(json.dumps(record)) + 1 for record in RECORDS]
    for limit in (sum(sizes[:3]) + 1, sum(sizes[:17]) - 1, sum(sizes[:17]) + 99):
        with files_up_to(limit):
            done, line = work(path)
        kept += done
        assert line is not None
        assert line.startswith(f"{path / 'results.jsonl'}: ")
        assert (path / "results.jsonl").read_bytes().endswith(b"\n")  # nothing half-written is left behind
        assert read_run(path).records == RECORDS[: len(kept)]
    assert len(kept) == 17
    done, line = work(path)
    assert line is None
    assert kept + done == [record["sample"] for record in RECORDS]  # each once
    assert read_run(path).records == RECORDS


def test_of_a_file_that_has_no_room_the_old_one_stays(tmp_path: Path) -> None:
    """Metrics and reports are whole, or what they were."""
    path = tmp_path / "run"
    assert work(path)[1] is None
    write_whole(path / "metrics.json", "old")
    with files_up_to(9_000):  # all records are there
        done, line = work(path)
    assert done == []
    assert line is not None
    assert line.startswith(f"{path / 'metrics.json'}: ")
    assert (path / "metrics.json").read_text() == "old"
    assert {file.name for file in path.iterdir()} <= {".lock", "config.json", "metrics.json", "results.jsonl"}
    assert read_run(path).records == RECORDS


@pytest.mark.parametrize("protected", [".", "results.jsonl", ".lock"])
def test_what_is_protected_is_left_and_gone_on_with_when_it_is_not(protected: str) -> None:
    with TemporaryDirectory() as folder:  # not pytest's own, which nobody else may enter
        Path(folder).chmod(0o755)
        path = Path(folder) / "run"
        assert work(path)[1] is None
        (path / "results.jsonl").write_text("".join(json.dumps(record) + "\n" for record in RECORDS[:7]))
        for each in (path, *path.iterdir()):
            each.chmod(0o777)
        (path / protected).chmod(0o555)
        with somebody():
            done, line = work(path)
        assert done == []
        assert line is not None
        assert "ermission denied" in line
        assert str(path) in line
        assert read_run(path).records == RECORDS[:7]
        (path / protected).chmod(0o777)
        assert work(path) == ([record["sample"] for record in RECORDS[7:]], None)
        assert read_run(path).records == RECORDS


def test_a_folder_that_is_moved_away_under_a_run_keeps_what_was_recorded(tmp_path: Path) -> None:
    with open_run(tmp_path / "run", ASKED, SESSION) as folder:
        folder.append(RECORDS[0])
        (tmp_path / "run").rename(tmp_path / "moved")
        with pytest.raises(OptionError, match="is gone"):
            folder.append(RECORDS[1])
    assert read_run(tmp_path / "moved").records == RECORDS[:2]


def test_nobody_has_no_home() -> None:
    with pytest.raises(OptionError, match="~nobody-of-that-name/run: there is no such user here"):
        at_home("~nobody-of-that-name/run")
