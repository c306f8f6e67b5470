"""Case: one command with one input that nobody should have given, and what has to come of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Expected = Literal["refused", "answers", "either"]
"""`refused`: exit code 2 and one line on standard error. `answers`: exit code 0. `either`: one of the two."""


@dataclass(frozen=True)
class Case:
    """One input of one command.

    `name` is unlike any other's of its kind, without white space, and the same for the same seed: a case is repeated by
    it alone. `argv` is what follows `specvlm` on the command line. `make` prepares files in an empty folder, which is
    the command's working directory then. `right` is a text that standard output holds if the command answers: an answer
    without it is wrong in silence.

    Standard input is the file `stdin` of that folder (or the device that it leads to), or empty where there is none.
    Standard output goes to the file `stdout` of that folder, if there is one (a link to /dev/full, say). Where `python`
    isn't empty, that is run in place of a command, and an error of ours is its refusal.
    """

    name: str
    argv: list[str]
    make: Callable[[Path], None]
    expect: Expected
    right: str | None = None
    python: str = ""


Generator = Callable[[int], Iterator[Case]]
"""All cases of a kind, from a seed. What is drawn is drawn by `random.Random(seed)`, and by nothing else."""


def nothing(folder: Path) -> None:
    """`make` for a command that needs no file."""
