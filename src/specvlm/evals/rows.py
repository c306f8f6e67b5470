"""Rows of a data set, from a local copy or from the Hub, one by one, so that a bad one spoils nothing but itself."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from specvlm.errors import OptionError


class UnreadableRowError(ValueError):
    """A row that lacks what a task needs, or holds something else in its place."""


@final
@dataclass(frozen=True)
class Row:
    """One row as published. `problem` says why there is nothing to read."""

    row_id: str
    values: Mapping[str, Any] = field(default_factory=dict)
    subset: str = ""
    problem: str | None = None

    def text(self, *names: str) -> str:
        """The text in the first of these columns that there is. Errors: UnreadableRowError if there is none in it."""
        value = self._first(names)
        if not isinstance(value, (str, int, float)) or not str(value).strip():
            raise UnreadableRowError(f"{names[0]!r} should be a text, and is {value!r}")
        return str(value)

    def texts(self, *names: str) -> tuple[str, ...]:
        """The texts listed in the first of these columns that there is. Errors: UnreadableRowError."""
        value = self._first(names)
        if not isinstance(value, (list, tuple)) or not value:
            raise UnreadableRowError(f"{names[0]!r} should be a list of texts, and is {value!r}")
        return tuple(str(item) for item in value)

    def has(self, name: str) -> bool:
        """Whether there is something in this column."""
        return self.values.get(name) not in (None, "")

    def _first(self, names: Sequence[str]) -> Any:
        for name in names:
            if name in self.values:
                return self.values[name]
        raise UnreadableRowError(f"there is no {' or '.join(map(repr, names))} in it, only {', '.join(self.values)}")


def is_local(data: str) -> bool:
    return Path(data).expanduser().exists()


def read_rows(data: str, patterns: Sequence[str], *, subset: str = "", split: str = "test") -> Iterator[Row]:
    """The rows of a data set in their order.

    `data` is a folder, in which the first of `patterns` that fits any file tells what to read (parquet, json, jsonl or
    csv; several parts are read in the order of their names), or the id of a data set on the Hub. Errors: OptionError if
    there is nothing to read.
    """
    if is_local(data):
        folder = Path(data).expanduser()
        files = next((found for pattern in patterns if (found := sorted(folder.glob(pattern)))), [])
        if not files:
            raise OptionError(f"data: {data} has no file {' or '.join(patterns)}")
        found = (item for file in files for item in _read(file))
    else:
        found = _from_hub(data, subset, split)
    for number, (values, problem) in enumerate(found):
        yield Row(f"{subset}/{number}" if subset else str(number), values, subset, problem)


Found = tuple[dict[str, Any], str | None]
"""The values of a row, and what is wrong with it."""


def _read(file: Path) -> Iterable[Found]:
    return READERS[file.suffix](file)


def _parquet(file: Path) -> Iterator[Found]:
    with datasets() as library:
        table = library.Dataset.from_parquet(str(file), keep_in_memory=True)
    return ((dict(table[number]), None) for number in range(len(table)))


def _json(file: Path) -> Iterator[Found]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise OptionError(f"data: {file} is no JSON: {error}") from None
    if not isinstance(content, list):
        raise OptionError(f"data: {file} should hold a list of rows")
    return (_object(item) for item in content)


def _jsonl(file: Path) -> Iterator[Found]:
    """Lines that can't be read are told, and those behind them are read."""
    with file.open("rb") as lines:
        for line in lines:
            if line.strip():
                try:
                    item = json.loads(line)
                except ValueError as error:
                    yield {}, f"no JSON: {error}"
                else:
                    yield _object(item)


def _csv(file: Path) -> Iterator[Found]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        for values in csv.DictReader(lines):
            yield {name: value for name, value in values.items() if name}, None


def _object(item: Any) -> Found:
    return (item, None) if isinstance(item, dict) else ({}, f"a row should be an object, and this is {item!r}")


READERS: dict[str, Callable[[Path], Iterable[Found]]] = {
    ".parquet": _parquet,
    ".json": _json,
    ".jsonl": _jsonl,
    ".csv": _csv,
}


def _from_hub(data: str, subset: str, split: str) -> Iterator[Found]:
    with datasets() as library:
        try:
            table: Any = library.load_dataset(data, subset or None, split=split)
        except Exception as error:
            # Whatever the network, the Hub or the data set has against it, the id is what the reader can change.
            what = f"data: {data!r} is no folder, and can't be loaded from the Hub"
            raise OptionError(f"{what} (subset {subset or 'default'}, split {split}): {error}") from error
    return ((dict(table[number]), None) for number in range(len(table)))


@contextmanager
def datasets() -> Iterator[Any]:
    """The library of that name, without its progress bars. Errors: OptionError if it isn't installed."""
    try:
        import datasets as library
    except ImportError:
        raise OptionError("parquet files and the Hub are read by datasets: pip install 'specvlm[eval]'") from None
    shown = library.is_progress_bar_enabled()
    library.disable_progress_bars()
    try:
        yield library
    finally:
        if shown:
            library.enable_progress_bars()
