"""The contract of a task: what is asked about which videos, and how right an answer is."""

from __future__ import annotations

import abc
import inspect
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import zip_longest
from typing import Any, ClassVar, Literal, TypeVar, get_args

from specvlm.comparing.telling import told
from specvlm.errors import OptionError, brief
from specvlm.evals.rows import Row, UnreadableRowError, is_local, read_rows
from specvlm.evals.sample import Sample, Scores
from specvlm.evals.shelf import MissingVideoError, Shelf
from specvlm.video.files.addresses import at_home

PromptName = Literal["authors", "paper"]

PAPER_PROMPT = (
    "Please provide a detailed description of the video, focusing on the main subjects, their actions, and the "
    "background scenes."
)
"""What SpecVLM (arXiv:2508.16201) asks of every video: answers are long, whatever the benchmark."""


@dataclass(frozen=True, kw_only=True)
class Task(abc.ABC):
    """A benchmark in its published layout. A subclass is a final frozen dataclass under `@register`.

    `data` is a folder with the published files, or the id of the data set on the Hub (default: where it is published);
    `videos` is the folder that its archives were unpacked into (default: that of the data). `subsets` are those of the
    benchmark, none meaning all. The first line of the docstring is the task's line in lists.

    Errors: OptionError.
    """

    data: str = ""
    videos: str = ""
    subsets: tuple[str, ...] = ()
    split: str = ""
    prompt: PromptName = "authors"

    name: ClassVar[str]
    hub_id: ClassVar[str] = ""
    split_published: ClassVar[str] = "test"
    all_subsets: ClassVar[tuple[str, ...]] = ()
    makes_data: ClassVar[bool] = False
    """Whether the task makes its own data, in the folder `data`."""
    usual_num_samples: ClassVar[int | None] = None
    """How many samples there are if nobody says; None: as many as the data has."""

    def __post_init__(self) -> None:
        if self.prompt not in get_args(PromptName):
            raise OptionError(f"prompt must be 'authors' or 'paper', not {brief(repr(self.prompt))}")
        for subset in self.subsets:
            if subset not in self.all_subsets:
                has = ", ".join(self.all_subsets) or "none"
                raise OptionError(f"{self.name} has no subset {brief(repr(subset))}; its subsets are: {has}")
        if not self.source:
            raise OptionError(f"{self.name} needs data: a folder")
        if at_home(self.source).is_file():
            raise OptionError(f"data: {self.source} is a file: name the folder that it is in")
        if self.videos and not at_home(self.videos).is_dir():
            raise OptionError(f"videos: there is no folder {self.videos}")
        if not self.videos and not self.makes_data and not is_local(self.source):
            raise OptionError(
                f"data: there is no folder {self.source}. If it is the id of a data set on the Hub, its videos come in "
                "archives: unpack them and tell where, with videos"
            )

    @abc.abstractmethod
    def patterns(self, subset: str) -> Sequence[str]:
        """Where a local copy keeps its rows, relative to its folder: the first pattern that fits is read."""

    @abc.abstractmethod
    def sample(self, row: Row) -> Sample:
        """The question of a row. Errors: UnreadableRowError, MissingVideoError."""

    @abc.abstractmethod
    def score(self, sample: Sample, text: str) -> Scores:
        """How right an answer is; nothing for a question that can't be graded."""

    def passed_over(self) -> str:
        """What of the data is no question and was left out for that, in one line; empty if nothing was."""
        return ""

    @classmethod
    def total_scores(cls, answers: Sequence[tuple[Sample, str]]) -> Scores:
        """Scores that only a whole run has."""
        return {}

    @classmethod
    def summary(cls) -> str:
        """The task in one line."""
        return (inspect.getdoc(cls) or cls.name).splitlines()[0]

    @property
    def source(self) -> str:
        """The data that is read."""
        return self.data or self.hub_id

    @cached_property
    def shelf(self) -> Shelf:
        folder = at_home(self.videos or self.source)
        return Shelf(folder)

    def samples(self, num_samples: int | None = None, order_seed: int | None = None) -> list[Sample]:
        """Questions in the order of the data, subsets in turn, or shuffled.

        `num_samples` counts those that can be asked. The others that were met on the way are there too: rows that can't
        be read, and videos that aren't there. Errors: OptionError if there is nothing at all.
        """
        rows: Iterable[Row] = _in_turn([self._rows(subset) for subset in self.subsets or self.all_subsets or ("",)])
        if order_seed is not None:
            rows = list(rows)
            random.Random(order_seed).shuffle(rows)
        found: list[Sample] = []
        missing = 0
        for row in rows:
            if num_samples is not None and len(found) - missing >= num_samples:
                break
            found.append(self._sample(row))
            missing += found[-1].problem is not None
        if not found:
            raise OptionError(f"data: {self.source} holds no rows")
        return found

    def _rows(self, subset: str) -> Iterator[Row]:
        split = self.split or self.split_published
        patterns = [pattern.format(split=split) for pattern in self.patterns(subset)]
        return read_rows(self.source, patterns, subset=subset, split=split)

    def _asked(self, sample: Sample) -> Sample:
        """The question under the prompt that is wanted. A video that is only described offers nothing to choose."""
        if self.prompt == "authors":
            return sample
        answer = "" if sample.choices else sample.answer
        return replace(sample, question=PAPER_PROMPT, system=None, choices=(), answer=answer)

    def _sample(self, row: Row) -> Sample:
        problem = row.problem
        if problem is None:
            try:
                return self._asked(self.sample(row))
            except UnreadableRowError as error:
                problem = f"{error}"
            except MissingVideoError as error:
                return Sample(sample_id=row.row_id, group=row.subset, problem=str(error))
            except Exception as error:  # noqa: BLE001  # whatever a row holds, the others shall not be lost to it
                problem = told(error)
        return Sample(sample_id=row.row_id, group=row.subset, problem=f"row {row.row_id} can't be read: {problem}")


TASKS: dict[str, type[Task]] = {}
"""Every task by its name."""

TaskType = TypeVar("TaskType", bound=type[Task])


def register(task: TaskType) -> TaskType:
    """Make a task known by its name, to the command line and everyone else."""
    TASKS[task.name] = task
    return task


def make_task(name: str, **options: Any) -> Task:
    """The task of this name. Errors: OptionError."""
    if name not in TASKS:
        raise OptionError(f"there is no task {brief(repr(name))}; there are {', '.join(TASKS)}")
    return TASKS[name](**options)


def _in_turn(lists: Sequence[Iterator[Row]]) -> Iterator[Row]:
    """One of each in turn, until all are empty: a few rows of a benchmark are then some of every kind."""
    return (row for turn in zip_longest(*lists) for row in turn if row is not None)
