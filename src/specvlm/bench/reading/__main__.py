"""Measure how fast files are read: `python -m specvlm.bench.reading`, beside every other reader that is installed.

Films of two minutes are rendered once (into `--folder`, where they are found again) and read by all in turns.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from specvlm.bench.reading.films import FILMS, FPS, rendered
from specvlm.bench.reading.readers import Reader, installed, straight


@dataclass(frozen=True)
class Line:
    """One reader on one film."""

    film: str
    reader: str
    seconds: float
    """Median."""
    same: bool
    """Whether its frames are those of a straight decode, to the bit."""


def measured(film: str, path: Path, readers: dict[str, Reader], places: Sequence[int], turns: int) -> list[Line]:
    """All readers on one film, in turns. Of the first turn nothing is kept but what was read: it warms up."""
    right, seconds, same = straight(path, places), {name: [] for name in readers}, dict.fromkeys(readers, True)
    for turn in range(1 + turns):
        for name in list(readers)[:: 1 if turn % 2 else -1]:
            start = time.perf_counter()
            frames = readers[name](path, places)
            if turn:
                seconds[name].append(time.perf_counter() - start)
            same[name] &= np.array_equal(frames, right)
    return [Line(film, name, statistics.median(seconds[name]), same[name]) for name in readers]


def table(lines: Sequence[Line]) -> str:
    """A row a film, a column a reader: seconds, and a star where pixels are others than those of a straight decode."""
    films, readers = (list(dict.fromkeys(getattr(line, name) for line in lines)) for name in ("film", "reader"))
    cells = {(line.film, line.reader): f"{line.seconds:.2f}{'' if line.same else ' *'}" for line in lines}
    head = ["| seconds | " + " | ".join(readers) + " |", "|---|" + "---:|" * len(readers)]
    return "\n".join(head + [f"| {film} | {' | '.join(cells[film, each] for each in readers)} |" for film in films])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Measure readers of video files, in turns.")
    parser.add_argument("--folder", type=Path, help="where films are kept (default: nowhere)")
    parser.add_argument("--films", nargs="+", choices=FILMS, default=list(FILMS), metavar="FILM", help=", ".join(FILMS))
    parser.add_argument("--seconds", type=float, default=120.0, help="length of each film (default: 120)")
    parser.add_argument("--num-frames", type=int, default=64, help="frames wanted, evenly spaced (default: 64)")
    parser.add_argument("--turns", type=int, default=5)
    asked = parser.parse_args(arguments)
    places = np.linspace(0, round(asked.seconds * FPS) - 1, asked.num_frames).round().astype(int).tolist()
    lines = list[Line]()
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in asked.films:
            path = folder / f"{name} {asked.seconds:g} s.{FILMS[name].suffix}"
            if not path.exists():
                rendered(FILMS[name], asked.seconds, path.with_name(f"unfinished {path.name}")).rename(path)
            lines += measured(name, path, installed(), places, asked.turns)
            sys.stderr.write(f"{name}: done\n")
    sys.stdout.write(table(lines) + "\n")


if __name__ == "__main__":
    main()
