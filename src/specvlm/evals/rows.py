"""Rows of a data set, from a local copy or from the Hub, one by one, so that a bad one spoils nothing but itself."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any, BinaryIO, final

from specvlm.comparing.telling import told
from specvlm.errors import OptionError, brief
from specvlm.evals.decoding import encoding_of, text_of, wanted
from specvlm.video.files.addresses import at_home
from specvlm.video.files.kernel import of_the_kernel

QUOTED = 80
"""Most characters of a row that a message quotes."""
LONGEST = 2**24
"""Most bytes of a line with a row in it."""


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
            raise UnreadableRowError(f"{names[0]!r} should be a text, and is {_quoted(value)}")
        return str(value)

    def texts(self, *names: str) -> tuple[str, ...]:
        """The texts listed in the first of these columns that there is. Errors: UnreadableRowError."""
        value = self._first(names)
        if not isinstance(value, (list, tuple)) or not value:
            raise UnreadableRowError(f"{names[0]!r} should be a list of texts, and is {_quoted(value)}")
        return tuple(str(item) for item in value)

    def has(self, name: str) -> bool:
        """Whether there is something in this column."""
        return self.values.get(name) not in (None, "")

    def _first(self, names: Sequence[str]) -> Any:
        for name in names:
            if name in self.values:
                return self.values[name]
        there = brief(", ".join(map(str, self.values))) or "nothing"
        raise UnreadableRowError(f"there is no {' or '.join(map(repr, names))} in it, only {there}")


def is_local(data: str) -> bool:
    return at_home(data).exists()


def read_rows(data: str, patterns: Sequence[str], *, subset: str = "", split: str = "test") -> Iterator[Row]:
    """The rows of a data set in their order.

    `data` is a folder, in which the first of `patterns` that fits any file tells what to read (parquet, json, jsonl or
    csv; several parts are read in the order of their names), or the id of a data set on the Hub. Errors: OptionError if
    there is nothing to read.
    """
    if is_local(data):
        folder = at_home(data)
        files = next((found for pattern in patterns if (found := sorted(folder.glob(pattern)))), [])
        if not files:
            raise OptionError(f"data: {data} has no file {' or '.join(patterns)}")
        for file in files:
            if not file.is_file() or of_the_kernel(file):
                raise OptionError(f"data: {brief(file)} is no file that can be read twice: put a regular one there")
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
        try:
            table = library.Dataset.from_parquet(str(file), keep_in_memory=True)
        except Exception as error:
            # Whatever the library stumbles over, the file is what the reader can change.
            raise OptionError(f"data: {file} is no parquet file: {brief(error)}") from error
    return _of_table(table)


def _json(file: Path) -> Iterator[Found]:
    try:
        content = json.loads(text_of(file))
    except OptionError:
        raise
    except (ValueError, RecursionError) as error:
        raise OptionError(f"data: {file} is no JSON: {brief(error)}") from None
    if not isinstance(content, list):
        raise OptionError(f"data: {file} should hold a list of rows, and holds {brief(repr(content), QUOTED)}")
    return (_object(item) for item in content)


def _jsonl(file: Path) -> Iterator[Found]:
    """Lines that can't be read are told, and those behind them are read."""
    with file.open("rb") as lines:
        is_utf8 = encoding_of(lines.read(4096))[0] == "utf-8"
        lines.seek(0)
        for line in _lines(lines) if is_utf8 else text_of(file).split("\n"):
            if len(line) > LONGEST:
                yield {}, f"a line of more than {LONGEST >> 20} MiB; nothing behind it is read"
                return
            if line.strip():
                try:
                    item = json.loads(line)
                except UnicodeDecodeError as error:
                    yield {}, f"no UTF-8: byte 0x{error.object[error.start]:02x}; save the file as {wanted(file)}"
                except (ValueError, RecursionError) as error:
                    yield {}, f"no JSON: {brief(error)}"
                else:
                    yield _object(item)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Lines, and of one that is too long its beginning."""
    return iter(lambda: file.readline(LONGEST + 1), b"")


SEPARATORS = ",;\t"
"""Of columns: by the standard, of spreadsheets where the comma is in numbers, and of what is copied out of them."""


def _csv(file: Path) -> Iterator[Found]:
    """Rows whose columns have commas, semicolons or tabs between them: whichever the header has most of."""
    lines = io.StringIO(text_of(file), newline="")
    first = lines.readline()
    if first.strip().startswith("sep=") and len(first.strip()) == 5:  # how a spreadsheet notes it down
        separator = first.strip()[4]
    else:
        separator = max(SEPARATORS, key=lambda each: _num_columns(first, each))
        lines.seek(0)
    table = csv.reader(lines, delimiter=separator)
    names: list[str] | None = None
    while True:
        try:
            values = next(table)
        except StopIteration:
            return
        except csv.Error as error:
            yield {}, f"no row of a csv: {error}"
            continue
        if names is None:
            names = [name.strip() for name in values] or None
        elif values:
            yield {name: value for name, value in zip_longest(names, values[: len(names)]) if name}, None


def _num_columns(header: str, separator: str) -> int:
    try:
        return len(next(csv.reader([header], delimiter=separator), []))
    except csv.Error:
        return 0


def _object(item: Any) -> Found:
    return (item, None) if isinstance(item, dict) else ({}, f"a row should be an object, and this is {_quoted(item)}")


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
            raise OptionError(f"{what} (subset {subset or 'default'}, split {split}): {brief(error)}") from error
    return _of_table(table)


def _of_table(table: Any) -> Iterator[Found]:
    """Cells as they are stored: the library would open whatever path or address a cell of a picture or a film names."""
    stored = table.with_format("arrow")
    for number in range(len(stored)):
        try:
            [values] = stored[number].to_pylist()
            yield values, None
        except Exception as error:  # noqa: BLE001  # a cell that its own library can't read: the others may be sound
            yield {}, told(error)


def _quoted(value: Any) -> str:
    """A value of a row in a message."""
    return brief(repr(value), QUOTED)


@contextmanager
def datasets() -> Iterator[Any]:
    """The library of that name, without its progress bars and lines about errors, which it raises as well. Errors:
    OptionError if it isn't installed."""
    try:
        import datasets as library
    except ImportError:
        raise OptionError("parquet files and the Hub are read by datasets: pip install 'specvlm[eval]'") from None
    shown, verbosity = library.is_progress_bar_enabled(), library.logging.get_verbosity()
    library.disable_progress_bars()
    library.logging.set_verbosity(library.logging.CRITICAL)
    try:
        yield library
    finally:
        library.logging.set_verbosity(verbosity)
        if shown:
            library.enable_progress_bars()
