"""A run on disk: whole after any cut, refused to any other run, and to a second process."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from evals.records import CONFIG
from specvlm.errors import OptionError
from specvlm.evals.run_folder import open_run, read_run

ASKED, [SESSION] = CONFIG["asked"], CONFIG["sessions"]
RECORDS = [{"sample": str(number), "text": "naïve\n\u2028\x85 \r" * number, "error": None} for number in range(4)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A run with four records."""
    with open_run(tmp_path / "run", ASKED, SESSION) as folder:
        for record in RECORDS:
            folder.append(record)
    return tmp_path / "run"


def records_of(path: Path) -> list[dict]:
    with open_run(path, ASKED, SESSION) as folder:
        return list(folder.records)


def test_goes_on_where_it_was(path: Path) -> None:
    with open_run(path, ASKED, SESSION) as folder:
        assert folder.records == RECORDS
        folder.append({"sample": "4", "error": None})
    assert records_of(path) == [*RECORDS, {"sample": "4", "error": None}]
    assert len(read_run(path).config["sessions"]) == 3


def test_a_record_is_on_disk_when_it_is_appended(path: Path) -> None:
    with open_run(path, ASKED, SESSION) as folder:
        folder.append({"sample": "4", "error": None})
        assert read_run(path).records[-1]["sample"] == "4"


def test_cut_anywhere_whole_records_stay(path: Path) -> None:
    """Whatever number of bytes reached the disk: each record whose text did is there, once, and a new one fits on."""
    content = (path / "results.jsonl").read_bytes()
    ends = [number for number, byte in enumerate(content) if byte == ord("\n")]
    assert len(ends) == len(RECORDS)  # no line break within a record
    for cut in range(len(content) + 1):
        (path / "results.jsonl").write_bytes(content[:cut])
        whole = sum(end <= cut for end in ends)
        assert read_run(path).records == RECORDS[:whole]
        with open_run(path, ASKED, SESSION) as folder:
            assert folder.records == RECORDS[:whole]
            folder.append({"sample": "new"})
        assert read_run(path).records == [*RECORDS[:whole], {"sample": "new"}]


def test_reading_changes_nothing(path: Path) -> None:
    (path / "results.jsonl").write_bytes((path / "results.jsonl").read_bytes() + b'{"torn')
    before = (path / "results.jsonl").read_bytes()
    assert read_run(path).records == RECORDS
    assert (path / "results.jsonl").read_bytes() == before


@pytest.mark.parametrize("spoilt", [b"garbage\n", b"[1]\n", b"\x00\x00\x00\n"])
def test_what_no_kill_does_is_refused(path: Path, spoilt: bytes) -> None:
    content = (path / "results.jsonl").read_bytes()
    (path / "results.jsonl").write_bytes(spoilt + content)
    with pytest.raises(OptionError, match="line 1"):
        records_of(path)


@pytest.mark.parametrize(
    ("keys", "value", "named"),
    [
        (("task", "num_samples"), 5, "task.num_samples was null and is 5 now"),
        (("models", "draft"), "self", 'models.draft was "small/model" and is "self" now'),
        (("settings", 0, "arms"), ["ar"], 'settings[0].arms was ["ar", "sd", "specvlm"] and is ["ar"] now'),
        (("settings", 0, "options", "pruning_ratio"), 0.5, "options.pruning_ratio was 0.9 and is 0.5 now"),
        (("settings", 0, "options", "new_option"), 1, "options.new_option was null and is 1 now"),
    ],
)
def test_another_run_is_refused_by_what_differs(path: Path, keys: tuple, value: object, named: str) -> None:
    asked = copy.deepcopy(ASKED)
    part = asked
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    with pytest.raises(OptionError) as caught, open_run(path, asked, SESSION):
        pass
    assert named in str(caught.value)
    assert len(read_run(path).config["sessions"]) == 1  # and nothing was changed


def test_tuples_are_the_lists_that_they_become(path: Path) -> None:
    asked = copy.deepcopy(ASKED)
    asked["settings"] = tuple(asked["settings"])
    with open_run(path, asked, SESSION) as folder:
        assert folder.records == RECORDS


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(OptionError, match="thesis"), open_run(tmp_path, ASKED, SESSION):
        pass
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_no_run_to_read(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"config\.json"):
        read_run(tmp_path)


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(OptionError, match="run"), open_run(tmp_path / "run", ASKED, SESSION):
        pass


def test_two_processes_cannot_work_at_one_run(path: Path) -> None:
    """The second is refused as long as the first lives, however it ends, and not any longer."""
    hold = textwrap.dedent(f"""
        import json, sys
        from specvlm.evals.run_folder import open_run
        with open_run({str(path)!r}, json.loads({json.dumps(json.dumps(ASKED))}), {{}}) as folder:
            print("mine", flush=True)
            sys.stdin.read()
    """)
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"mine\n"
        with pytest.raises(OptionError, match="another process"):
            records_of(path)
        assert read_run(path).records == RECORDS  # looking is free
        other.kill()
    assert records_of(path) == RECORDS


class TestARunOfMore:
    """Of the numbers that may grow; the rest of what was asked stays as it was."""

    GROWS = {"task.num_samples": float("inf")}  # noqa: RUF012  # of a class that nobody makes two of

    @staticmethod
    def asked(num_samples: int | None, **others: object) -> dict:
        return ASKED | others | {"task": ASKED["task"] | {"num_samples": num_samples}}

    @pytest.mark.parametrize("more", [[4, 4, 9], [4, 9, None], [None, None]])
    def test_goes_on_and_is_known_by_what_it_was_asked_last(self, tmp_path: Path, more: list[int | None]) -> None:
        for number in more:
            with open_run(tmp_path / "run", self.asked(number), SESSION, self.GROWS) as folder:
                assert folder.as_run().config["asked"]["task"]["num_samples"] == number
                folder.append({"sample": str(number), "error": None})
        run = read_run(tmp_path / "run")
        assert len(run.records) == len(run.config["sessions"]) == len(more)

    @pytest.mark.parametrize(("before", "after"), [(9, 4), (None, 4)])
    def test_is_not_cut_short(self, tmp_path: Path, before: int | None, after: int) -> None:
        path = tmp_path / "run"
        with open_run(path, self.asked(before), SESSION, self.GROWS) as folder:
            folder.append(RECORDS[0])
        files = {name.name: name.read_bytes() for name in path.iterdir()}
        with (
            pytest.raises(OptionError, match="not cut short: ask for as many or more"),
            open_run(path, self.asked(after), SESSION, self.GROWS),
        ):
            pass
        assert {name.name: name.read_bytes() for name in path.iterdir()} == files

    def test_what_none_stands_for(self, tmp_path: Path) -> None:
        for number in (4, None, 41):
            with open_run(tmp_path / "run", self.asked(number), SESSION, {"task.num_samples": 40.0}):
                pass
        with (
            pytest.raises(OptionError, match="was 41 and is null now"),
            open_run(tmp_path / "run", self.asked(None), SESSION, {"task.num_samples": 40.0}),
        ):
            pass

    def test_is_of_the_same_otherwise(self, tmp_path: Path) -> None:
        with open_run(tmp_path / "run", self.asked(4), SESSION, self.GROWS):
            pass
        other = self.asked(9, models={"target": "another/model"})
        with (
            pytest.raises(OptionError, match=r"models.target was .* \(only task.num_samples may be raised\), or name"),
            open_run(tmp_path / "run", other, SESSION, self.GROWS),
        ):
            pass
        assert read_run(tmp_path / "run").config["asked"]["task"]["num_samples"] == 4
