"""Attempts: how often each job of a run on Ray was begun. Alone in a file, so that its process imports no PyTorch."""

from __future__ import annotations

from collections import Counter
from typing import final


@final
class Attempts:
    """A count in a process that no job can take with it: Ray by itself would begin a job that kills without end."""

    def __init__(self) -> None:
        self._begun: Counter[int] = Counter()

    def begin(self, job: int) -> int:
        """How often a job has been begun, this time included. It goes by its place among the jobs."""
        self._begun[job] += 1
        return self._begun[job]
