"""A run on disk: whole after any cut, refused to any other run, and to a second process."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from evals.records import CONFIG, answered, failed
from specvlm.errors import OptionError
from specvlm.evals.reporting.metrics import metrics_of
from specvlm.evals.reporting.report import report_html
from specvlm.evals.run_folder import is_run, open_run, read_run
from specvlm.evals.sweeping.metrics import sweep_metrics

ASKED, [SESSION] = CONFIG["asked"], CONFIG["sessions"]
TEXT = "naïve\n\u2028\x85 \r"
RECORDS = [answered(str(number), "ar", text=TEXT * number) for number in range(4)]
NEW = answered("new", "ar")


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
        folder.append(NEW)
    assert records_of(path) == [*RECORDS, NEW]
    assert len(read_run(path).config["sessions"]) == 3


def test_a_record_is_on_disk_when_it_is_appended(path: Path) -> None:
    with open_run(path, ASKED, SESSION) as folder:
        folder.append(NEW)
        assert read_run(path).records[-1]["sample"] == "new"


def test_cut_anywhere_whole_records_stay(path: Path) -> None:
    """Whatever number of bytes reached the disk: each record whose text did is there, once, and a new one fits on."""
    short = [failed(str(number), None, TEXT * number) for number in range(1, 4)]  # so that there are fewer cuts
    content = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in short).encode()
    ends = [number for number, byte in enumerate(content) if byte == ord("\n")]
    assert len(ends) == len(short)  # no line break within a record
    for cut in range(len(content) + 1):
        (path / "results.jsonl").write_bytes(content[:cut])
        whole = sum(end <= cut for end in ends)
        assert read_run(path).records == short[:whole]
        with open_run(path, ASKED, SESSION) as folder:
            assert folder.records == short[:whole]
            folder.append(NEW)
        run = read_run(path)
        assert (run.records, run.unreadable) == ([*short[:whole], NEW], ())


def test_reading_changes_nothing(path: Path) -> None:
    (path / "results.jsonl").write_bytes((path / "results.jsonl").read_bytes() + b'{"torn')
    before = (path / "results.jsonl").read_bytes()
    assert read_run(path).records == RECORDS
    assert (path / "results.jsonl").read_bytes() == before


def spoilt(**changes: object) -> bytes:
    return json.dumps(RECORDS[1] | changes).encode() + b"\n"


LINES = [
    (b"garbage\n", "no JSON"),
    (b"[1]\n", "should be an object"),
    (b"\x00\x00\x00\n", "no JSON"),
    (b"\xff\xfe\n", "no JSON"),
    (b"[" * 100_000 + b"\n", "no JSON"),
    (b'{"sample": "1"}\n', "lacks 'setting'"),
    (spoilt(decode_seconds=float("nan")), "'decode_seconds' should be a finite number, not nan"),
    (spoilt(total_seconds=-1.0), "'total_seconds' should be greater than or equal to 0, not -1.0"),
    (spoilt(tokens="many"), "'tokens' should be a valid integer, not 'many'"),
    (spoilt(tokens=6), "'tokens' should be 5, as many as 'token_ids', not 6"),
    (spoilt(peak_memory_bytes=10**400), "'peak_memory_bytes'"),
    (spoilt(time=10**400), "'time'"),
    (spoilt(phases={"verify": None}), "'phases.verify' should be a valid number, not None"),
    (spoilt(scores={"accuracy": [1.0]}), "'scores.accuracy'"),
    (spoilt(error=7), "'error' should be a text, not 7"),
    (spoilt(setting="other"), "no setting 'other'"),
    (spoilt(arm="other"), "no arm 'other'"),
]


@pytest.mark.parametrize(("line", "said"), LINES, ids=[said for _, said in LINES])
def test_a_line_that_is_no_record_is_told_and_left(path: Path, line: bytes, said: str) -> None:
    """It takes nothing with it: what it was of is done again, behind all that is there."""
    lines = (path / "results.jsonl").read_bytes().splitlines(keepends=True)
    before = b"".join([lines[0], line, *lines[2:]])
    (path / "results.jsonl").write_bytes(before)
    with open_run(path, ASKED, SESSION) as folder:
        assert folder.records == [RECORDS[0], *RECORDS[2:]]
        folder.append(RECORDS[1])
        [told] = folder.as_run().notes
    assert said in told
    assert "results.jsonl, line 2: " in told
    assert (path / "results.jsonl").read_bytes() == before + lines[1]
    run = read_run(path)
    assert run.records == [RECORDS[0], *RECORDS[2:], RECORDS[1]]
    assert metrics_of(run)["unreadable"] == [told]


def test_of_many_lines_the_first_are_told_by_name_and_all_are_counted(path: Path) -> None:
    with (path / "results.jsonl").open("a") as file:
        file.write("x\n" * 12)
    run = read_run(path)
    assert len(run.unreadable) == 12
    assert [("line 5" in run.notes[0]), run.notes[-1]] == [
        True,
        f"{path / 'results.jsonl'}: 7 more lines can't be read",
    ]


def test_the_end_of_somebody_elses_file_is_not_cut_off(path: Path) -> None:
    """Only of a record does a kill leave a part."""
    for content in (b"\x00" * 99, b"years of work", b"[1, 2"):
        (path / "results.jsonl").write_bytes(content)
        assert records_of(path) == []
        assert (path / "results.jsonl").read_bytes() == content + b"\n"


def test_what_could_not_be_read_again_is_not_written(path: Path) -> None:
    before = (path / "results.jsonl").read_bytes()
    with open_run(path, ASKED, SESSION) as folder:
        for record in (NEW | {"arm": "other"}, NEW | {"tokens": -1}, NEW | {"total_seconds": float("inf")}):
            with pytest.raises(ValueError, match=r"arm|tokens|JSON"):
                folder.append(record)
    assert (path / "results.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (("asked", "format"), 2, "a later specvlm wrote it, in format 2; this one reads 1"),
        (("asked", "format"), "1", "'asked.format'"),
        (("asked", "settings"), [], "'asked.settings'"),
        (("asked", "settings"), {}, "'asked.settings'"),
        (("asked", "settings", 0, "arms"), "ar", "'asked.settings[0].arms'"),
        (("asked", "settings", 0, "name"), 1, "'asked.settings[0].name' should be a text, not 1"),
        (("asked", "settings", 0, "options"), None, "'asked.settings[0].options' should be an object, not None"),
        (("asked", "task"), "mlvu", "'asked.task' should be an object"),
        (("asked", "models"), [1], "'asked.models'"),
        (("sessions",), 7, "'sessions'"),
        (("sessions", 0, "machine"), {"gpus": 5}, "'sessions[0].machine.cpu'"),
    ],
)
def test_a_config_that_was_edited_is_refused_by_what_is_wrong(path: Path, keys: tuple, value: Any, said: str) -> None:
    config = json.loads((path / "config.json").read_text())
    part = config
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    (path / "config.json").write_text(json.dumps(config))
    files = {file.name: file.read_bytes() for file in path.iterdir()}
    for attempt in (read_run, records_of):
        with pytest.raises(OptionError, match=r"config\.json can't be read") as caught:
            attempt(path)
        assert said in str(caught.value)
    assert is_run(path)  # damaged as it is, nobody takes it for data
    assert {file.name: file.read_bytes() for file in path.iterdir()} == files


@pytest.mark.parametrize("kind", ["eval", "sweep"])
def test_runs_of_the_first_format_are_still_read(kind: str) -> None:
    """As a build wrote them that didn't check what it read."""
    run = read_run(Path(__file__).parent / "kept_runs" / kind)
    assert run.unreadable == ()
    assert len(run.records) == 3
    metrics = sweep_metrics(run) if kind == "sweep" else metrics_of(run)
    assert metrics["num_samples"] == 1
    if kind == "eval":
        assert metrics["settings"]["default"]["arms"]["specvlm"]["identical"] == 1
        assert "1 samples" in report_html([run])


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
        asked, session = json.loads({json.dumps(json.dumps([ASKED, SESSION]))})
        with open_run({str(path)!r}, asked, session) as folder:
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
                folder.append(failed(str(number), None, "no video"))
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
