"""RunFolder: a run on disk. Whatever was written is there after a kill, and no run is mixed with another.

config.json     what was asked, and every time that it was worked at: when, on what machine, with which versions
results.jsonl   one record an answer, written as it is made
metrics.json    what follows from the records
report.html     the same for people
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, final

from specvlm.errors import OptionError, brief
from specvlm.evals.writing import ESCAPED, OPENED, inside, require_regular, write_whole

CONFIG, RESULTS, METRICS, REPORT, LOCK = "config.json", "results.jsonl", "metrics.json", "report.html", ".lock"

Record = dict[str, Any]


@final
@dataclass(frozen=True)
class Run:
    """A run as it stands: its config, and its records in the order in which they were made."""

    path: Path
    config: dict[str, Any]
    records: list[Record]

    @property
    def name(self) -> str:
        """What its folder is called."""
        return self.path.resolve().name


def read_run(path: Path | str) -> Run:
    """A run, finished or not; one that is being worked at, too. Errors: OptionError if there is none."""
    path = Path(path)
    if not (path / CONFIG).is_file():
        raise OptionError(f"{path} is no folder of a run: it has no {CONFIG}")
    config = _config(path)
    results = path / RESULTS
    if results.exists() and not results.is_file():
        raise OptionError(f"{brief(results)} is no regular file, and can't be read as the records of a run")
    return Run(path, config, _records(results, results.read_bytes())[0] if results.exists() else [])


def is_run(path: Path) -> bool:
    """Whether a folder holds a run, finished or not."""
    try:
        return (path / CONFIG).is_file() and bool(_config(path))
    except (OSError, OptionError):
        return False


@final
class RunFolder:
    """A run that is being worked at, by this process alone."""

    def __init__(self, path: Path, results: BinaryIO, records: list[Record]) -> None:
        """For `open_run`."""
        self.path, self._results, self._records = path, results, records
        self._size = os.fstat(results.fileno()).st_size

    @property
    def records(self) -> list[Record]:
        """What was recorded so far, before this process began too."""
        return self._records

    def append(self, record: Mapping[str, Any]) -> None:
        """Write a record; when this returns, it is on the disk, in the file of that name.

        Errors: ValueError, TypeError for what JSON can't hold; OptionError if the file was taken away or changed.
        """
        line = json.dumps(record, ensure_ascii=False, allow_nan=False)
        content = line.encode(errors=ESCAPED) + b"\n"
        self._results.write(content)
        self._results.flush()
        os.fsync(self._results.fileno())
        self._size += len(content)
        self.require_whole()
        self._records.append(json.loads(line))

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
        return Run(self.path, _json(self.path / CONFIG), self._records)


@contextmanager
def open_run(
    path: Path | str, asked: Mapping[str, Any], session: Mapping[str, Any], grows: Mapping[str, float] | None = None
) -> Iterator[RunFolder]:
    """Begin a run in a new or empty folder, or go on with the run that is there.

    `asked` has to be what the run was begun with, but for the numbers in `grows`, which may be greater: then that is
    what the run was asked from now on. They are named by their paths, each with what None stands for. `session` (time,
    machine, versions) may differ, and is added. A last line that a kill cut off is removed. Errors: OptionError for a
    folder of something else, of a run that was asked something else (the first difference is named) or for more, or
    that another process works at.
    """
    grows = grows or {}
    path = Path(path).expanduser()
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
            yield RunFolder(path, file, _mend(path / RESULTS, file))


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


def _opened(results: Path) -> BinaryIO:
    """The file of records, to read and to append to. Errors: OptionError if it has another name elsewhere."""
    file = os.fdopen(os.open(results, os.O_RDWR | os.O_CREAT | os.O_APPEND | OPENED, 0o666), "r+b")
    if os.fstat(file.fileno()).st_nlink > 1:
        file.close()
        raise OptionError(f"out: {brief(results)} is one file with another (a hard link): put a copy in its place")
    return file


def _mend(results: Path, file: BinaryIO) -> list[Record]:
    """The records of a file that may have been cut short; what is no whole record at its end is cut off."""
    content = file.read()
    records, end = _records(results, content)
    if end < len(content):
        file.truncate(end)
        os.fsync(file.fileno())
    elif content and not content.endswith(b"\n"):  # whole but for its end of line: nothing is done twice
        file.write(b"\n")
        file.flush()
    return records


def _records(results: Path, content: bytes) -> tuple[list[Record], int]:
    """The whole records, and where they end. Errors: OptionError if what can't be read isn't the last line."""
    records: list[Record] = []
    end = 0
    for number, line in enumerate(content.splitlines(keepends=True), 1):
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError("it should be an object")
        except (ValueError, RecursionError) as error:
            if end + len(line) == len(content):
                break
            raise OptionError(f"{results}, line {number}: no record of a run: {error}") from None
        records.append(record)
        end += len(line)
    return records, end


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise OptionError(f"{path} can't be read: {brief(error)}") from None


def _config(path: Path) -> dict[str, Any]:
    """The config of a run, and not of anything else that keeps a file of that name, as checkpoints do."""
    config = _json(path / CONFIG)
    asked, sessions = (config.get("asked"), config.get("sessions")) if isinstance(config, dict) else (None, None)
    if not isinstance(asked, dict) or not isinstance(sessions, list):
        raise OptionError(f"{path} is no folder of a run: its {CONFIG} has no 'asked' and 'sessions' of one")
    return config


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
