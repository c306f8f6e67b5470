"""The log of finished cases: a line each, from which a fuzz that was ended goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import final

import specvlm
from fuzz.running.verdict import Verdict


@dataclass(frozen=True)
class Finished:
    """A case that was tried. `memory` in bytes; `said` is the last line on standard error, cut."""

    kind: str
    name: str
    verdict: Verdict
    code: int
    seconds: float
    memory: int
    cold: bool
    said: str

    @property
    def whole_name(self) -> str:
        """By which it is repeated alone."""
        return f"{self.kind}/{self.name}"


@final
class Log:
    """Finished cases of one seed on one source: those of another source are dropped, for they say nothing of this."""

    def __init__(self, folder: Path, seed: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / f"seed-{seed}.jsonl"
        head = json.dumps({"source": source_digest()})
        before = self._file.read_text().splitlines() if self._file.exists() else []
        self.finished = list(_read(before[1:])) if before[:1] == [head] else []
        lines = [head, *(json.dumps(asdict(each)) for each in self.finished)]
        self._file.write_text("".join(f"{line}\n" for line in lines))

    def add(self, finished: Finished) -> None:
        self.finished.append(finished)
        with self._file.open("a") as file:
            file.write(f"{json.dumps(asdict(finished))}\n")


def _read(lines: list[str]) -> Iterator[Finished]:
    for line in lines:
        try:
            values = json.loads(line)
        except json.JSONDecodeError:  # cut short by whoever ended it
            return
        yield Finished(**values | {"verdict": Verdict(values["verdict"])})


def source_digest() -> str:
    """Of all that is tried, and of all that tries it."""
    digest = hashlib.sha256()
    for root in (Path(specvlm.__file__).parent, Path(__file__).parents[1]):
        for file in sorted(root.rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()
