"""What came of a case, in a word."""

from __future__ import annotations

import re
from enum import StrEnum

from fuzz.case import Case
from fuzz.running.sandbox import Attempt, Bounds

REFUSED, BUG = 2, 70
"""Exit codes of `specvlm` (`specvlm.cli.ending`)."""

TOLD = re.compile(r"(warning|device|eval|sweep|bench|plan): ")
"""How lines on standard error begin that a command may say beside what it ends with."""


class Verdict(StrEnum):
    """The first two are what a case may come to."""

    ANSWERED = "answered"
    REFUSED = "refused"
    TRACEBACK = "traceback"
    """Of Python, or the bug that the command line tells of, or a signal."""
    LATE = "late"
    LARGE = "large"
    SILENT = "silently wrong"
    """Another answer than the right one, or an answer where there is none."""
    OTHERWISE = "otherwise"
    """Another exit code than promised, or more to read than a line."""

    @property
    def is_right(self) -> bool:
        return self in (Verdict.ANSWERED, Verdict.REFUSED)


def verdict(case: Case, attempt: Attempt, bounds: Bounds) -> Verdict:
    """What to make of it."""
    if attempt.ended == "late":
        return Verdict.LATE
    if attempt.ended == "large" or attempt.memory > bounds.memory:
        return Verdict.LARGE
    if "Traceback (most recent call last)" in attempt.stderr or attempt.code < 0 or attempt.code == BUG:
        return Verdict.TRACEBACK
    if attempt.code == 0:
        wrong = case.expect == "refused" or (case.right is not None and case.right not in attempt.stdout)
        return Verdict.SILENT if wrong else Verdict.ANSWERED
    if attempt.code == REFUSED and case.expect != "answers" and is_a_line(attempt.stderr):
        return Verdict.REFUSED
    return Verdict.OTHERWISE


def is_a_line(stderr: str) -> bool:
    """Whether a refusal is told in one line, beside warnings and how far a run was."""
    lines = [line for line in stderr.splitlines() if line and not TOLD.match(line)]
    return len(lines) == 1 and lines[0].startswith("error: ")
