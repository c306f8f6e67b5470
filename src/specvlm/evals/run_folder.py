"""RunFolder: a run on disk. Whatever was written is there after a kill, and no run is mixed with another.

config.json     what was asked, and every time that it was worked at: when, on what machine, with which versions
results.jsonl   one record an answer, written as it is made
metrics.json    what follows from the records
report.html     the same for people

What the first two hold is checked as it is read (`schema`). A record that can't be read is told, counted and left where
it is, and what it was of is done again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path
from typing import Any, final

from specvlm.errors import OptionError, brief
from specvlm.evals.schema import Arms, wrong_config, wrong_record
from specvlm.evals.writing import ESCAPED, OPENED, inside, require_regular, write_whole
from specvlm.video.files.addresses import at_home

CONFIG, RESULTS, METRICS, REPORT, LOCK = "config.json", "results.jsonl", "metrics.json", "report.html", ".lock"

Record = dict[str, Any]

NAMED = 5
"""Records that can't be read and are told one by one."""

BEGINS = b'{"'
"""How a record begins, and so what a kill leaves of one; anything else at the end of a file is somebody's."""


@final
@dataclass(frozen=True)
class Run:
    """A run as it stands: its config, and its records in the order in which they were made."""

    path: Path
    config: dict[str, Any]
    records: list[Record]
    unreadable: tuple[str, ...] = ()
    """The other lines of its records, each by its place and what is wrong with it."""

    @property
    def name(self) -> str:
        """What its folder is called."""
        return self.path.resolve().name

    @property
    def notes(self) -> list[str]:
        """What is told of the lines that can't be read, a line each; of many, how many more there are."""
        more = len(self.unreadable) - NAMED
        rest = [f"{brief(self.path / RESULTS)}: {more} more lines can't be read"] if more > 0 else []
        return [*self.unreadable[:NAMED], *rest]


def read_run(path: Path | str) -> Run:
    """A run, finished or not; one that is being worked at, too. Errors: OptionError if there is none."""
    path = Path(path)
    if not (path / CONFIG).is_file():
        raise OptionError(f"{path} is no folder of a run: it has no {CONFIG}")
    config = _config(path)
    results = path / RESULTS
    if results.exists() and not results.is_file():
        raise OptionError(f"{brief(results)} is no regular file, and can't be read as the records of a run")
    found = _read(results, results.read_bytes() if results.exists() else b"", _arms(config))
    return Run(path, config, found.records, tuple(found.unreadable))


def is_run(path: Path) -> bool:
    """Whether a folder holds a run, finished or not, be it damaged."""
    try:
        return (path / CONFIG).is_file() and _is_of_a_run(_json(path / CONFIG))
    except (OSError, OptionError):
        return False


@final
class RunFolder:
    """A run that is being worked at, by this process alone."""

    def __init__(self, path: Path, config: dict[str, Any], results: FileIO, found: _Found) -> None:
        """For `open_run`."""
        self.path, self._config, self._results = path, config, results
        self._records, self._unreadable = found.records, tuple(found.unreadable)
        self._size = os.fstat(results.fileno()).st_size

    @property
    def records(self) -> list[Record]:
        """What was recorded so far, before this process began too."""
        return self._records

    def append(self, record: Mapping[str, Any]) -> None:
        """Write a record; when this returns, it is on the disk, in the file of that name.

        Errors: ValueError, TypeError for what JSON can't hold, or what could not be read again; OptionError if the file
        was taken away or changed; OSError with the file's name if the system won't have it: then nothing is written.
        """
        line = json.dumps(record, ensure_ascii=False, allow_nan=False)
        if (wrong := wrong_record(written := json.loads(line), _arms(self._config))) is not None:
            raise ValueError(wrong)
        content = line.encode(errors=ESCAPED) + b"\n"
        try:
            _write(self._results, content)
            os.fsync(self._results.fileno())
        except OSError as error:
            with suppress(OSError):
                self._results.truncate(self._size)
            raise OSError(error.errno, error.strerror, str(self.path / RESULTS)) from error
        self._size += len(content)
        self.require_whole()
        self._records.append(written)

    def require_whole(self) -> None:
        """Errors: OptionError if the records on the disk aren't those that were written: nobody else writes there."""
        results = self.path / RESULTS
        mine = os.fstat(self._results.fileno())
        try:
            there = results.lstat()
        except OSError as error:
            what = f"is gone ({error.strerror})"
        else:
            what = "was replaced" if not os.path.samestat(mine, there) else "was changed by somebody else"
            if os.path.samestat(mine, there) and there.st_size == self._size:
                return
        raise OptionError(
            f"{brief(results)} {what} while the run went on, and records are lost: put it back or, to have them "
            "made again, remove what is left of it, and start the run again"
        )

    def write(self, name: str, text: str) -> None:
        """Write one of the other files, whole or not at all."""
        write_whole(inside(self.path, name), text)

    def as_run(self) -> Run:
        """Errors: OptionError if what was recorded is no longer on the disk."""
        self.require_whole()
        return Run(self.path, self._config, self._records, self._unreadable)


@contextmanager
def open_run(
    path: Path | str, asked: Mapping[str, Any], session: Mapping[str, Any], grows: Mapping[str, float] | None = None
) -> Iterator[RunFolder]:
    """Begin a run in a new or empty folder, or go on with the run that is there.

    `asked` has to be what the run was begun with, but for the numbers in `grows`, which may be greater: then that is
    what the run was asked from now on. They are named by their paths, each with what None stands for. `session` (time,
    machine, versions) may differ, and is added. A last record that a kill cut off is removed. Errors: OptionError for a
    folder of something else, of a run that was asked something else (the first difference is named) or for more, or
    that another process works at.
    """
    grows = grows or {}
    path = at_home(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"out: {path} can't be made: {error}") from None
    if not (path / CONFIG).exists() and (
        others := sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
    ):
        raise OptionError(f"out: {path} is no folder of a run, and not empty: it holds {others[0]}")
    for name in (LOCK, CONFIG, RESULTS, METRICS, REPORT):  # before anything is written to any of them
        require_regular(path / name)
    with _alone(path):
        asked = json.loads(json.dumps(asked))  # as it will be read again: a tuple is a list
        config = _config(path) if (path / CONFIG).exists() else {"asked": asked, "sessions": []}
        if difference := _difference(config["asked"], asked, grows):
            raise OptionError(f"out: {path} holds another run: {difference}, or name another folder")
        config["asked"] = asked
        config["sessions"].append(dict(session))
        write_whole(path / CONFIG, json.dumps(config, indent=2, ensure_ascii=False) + "\n")
        with _opened(path / RESULTS) as file:
            yield RunFolder(path, config, file, _mend(path / RESULTS, file, _arms(config)))


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """While no other process is in the folder. The system ends this with the process, however that ends."""
    try:
        import filelock
    except ImportError:
        raise OptionError("a run's folder is locked by filelock: pip install 'specvlm[eval]'") from None
    lock = filelock.FileLock(path / LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise OptionError(f"out: another process is working at {path}: wait for it, or name another folder") from None
    try:
        yield
    finally:
        lock.release()


def _write(file: FileIO, content: bytes) -> None:
    """All of it: a disk that fills up takes a part, and says so at the next one."""
    left = memoryview(content)
    while left:
        left = left[file.write(left) or 0 :]


def _opened(results: Path) -> FileIO:
    """The file of records, to read and to append to. Errors: OptionError if it has another name elsewhere."""
    file = FileIO(os.open(results, os.O_RDWR | os.O_CREAT | os.O_APPEND | OPENED, 0o666), "r+")
    if os.fstat(file.fileno()).st_nlink > 1:
        file.close()
        raise OptionError(f"out: {brief(results)} is one file with another (a hard link): put a copy in its place")
    return file


@dataclass(frozen=True)
class _Found:
    """What a file of records holds: the records, what is told of the other lines, and where a cut record begins."""

    records: list[Record]
    unreadable: list[str]
    end: int


def _mend(results: Path, file: FileIO, arms: Arms) -> _Found:
    """What a file holds that may have been cut short; a record that was cut is cut off."""
    content = file.readall()
    found = _read(results, content, arms)
    if found.end < len(content):
        file.truncate(found.end)
        os.fsync(file.fileno())
    elif content and not content.endswith(b"\n"):  # whole but for its end of line: nothing is done twice
        _write(file, b"\n")
    return found


def _read(results: Path, content: bytes, arms: Arms) -> _Found:
    """Line by line: what can't be read spoils nothing but itself."""
    found = _Found([], [], len(content))
    for number, line in enumerate(content.splitlines(keepends=True), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            if line[: len(BEGINS)] == BEGINS[: len(line)] and not line.endswith((b"\n", b"\r")):
                return replace(found, end=len(content) - len(line))
            wrong = f"no JSON: {error}"
        else:
            wrong = wrong_record(record, arms)
            if wrong is None:
                found.records.append(record)
        if wrong is not None:
            found.unreadable.append(f"{brief(results)}, line {number}: no record of this run: {brief(wrong)}")
    return found


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise OptionError(f"{path} can't be read: {brief(error)}") from None


def _config(path: Path) -> dict[str, Any]:
    """The config of a run, and not of anything else that keeps a file of that name, as checkpoints do."""
    config = _json(path / CONFIG)
    if not _is_of_a_run(config):
        raise OptionError(f"{path} is no folder of a run: its {CONFIG} has no 'asked' and 'sessions' of one")
    if (wrong := wrong_config(config)) is not None:
        raise OptionError(f"{path / CONFIG} can't be read as the config of a run: {wrong}")
    return config


def _is_of_a_run(config: Any) -> bool:
    return isinstance(config, dict) and isinstance(config.get("asked"), dict) and "sessions" in config


def _arms(config: Mapping[str, Any]) -> Arms:
    return {setting["name"]: setting["arms"] for setting in config["asked"]["settings"]}


def _difference(there: Any, now: Any, grows: Mapping[str, float], name: str = "") -> str | None:
    """The first value that may not be what it is, by its path, and what would be right; None if all may."""
    if isinstance(there, dict) and isinstance(now, dict):
        keys = [*there, *(key for key in now if key not in there)]
        pairs = [(f"{name}.{key}" if name else key, there.get(key), now.get(key)) for key in keys]
    elif isinstance(there, list) and isinstance(now, list) and len(there) == len(now):
        pairs = [(f"{name}[{number}]", old, new) for number, (old, new) in enumerate(zip(there, now, strict=True))]
    elif there == now or (name in grows and _amount(there, grows[name]) <= _amount(now, grows[name])):
        return None
    else:
        differs = f"{name} was {brief(json.dumps(there))} and is {brief(json.dumps(now))} now"
        if name in grows:
            return f"{differs}. A run can be extended, and not cut short: ask for as many or more"
        return f"{differs}. Ask the same" + "".join(f" (only {other} may be raised)" for other in grows)
    return next((found for pair in pairs if (found := _difference(pair[1], pair[2], grows, pair[0]))), None)


def _amount(value: Any, of_none: float) -> float:
    return of_none if value is None else float(value)
