"""Anybody's videos: a folder, and a file of questions if there is one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

from specvlm.errors import OptionError, brief
from specvlm.evals.grading.captions import score_caption, score_captions
from specvlm.evals.grading.choices import score_choice
from specvlm.evals.rows import Row
from specvlm.evals.sample import Sample, Scores
from specvlm.evals.tasks.base import PAPER_PROMPT, Task, register
from specvlm.evals.tasks.lettering import letter_of, listed
from specvlm.video.files.addresses import at_home

QUESTIONS = ("questions.jsonl", "questions.csv", "questions.json", "questions.parquet")


@register
@final
@dataclass(frozen=True, kw_only=True)
class Folder(Task):
    """Any folder of videos, with your own questions or none.

    `questions.csv` or `questions.jsonl` beside the videos has the columns `video` and `question`, and may have `answer`
    and `candidates` (in csv separated by `|`): then answers are graded, by the option or as a description. Without such
    a file every video is described: whatever `specvlm.video.load` reads as one that moves, but for hidden files and
    folders of runs.
    """

    name: ClassVar[str] = "folder"

    def patterns(self, subset: str) -> Sequence[str]:
        return QUESTIONS

    def sample(self, row: Row) -> Sample:
        question, answer = row.text("question"), row.text("answer") if row.has("answer") else ""
        choices: tuple[str, ...] = ()
        if row.has("candidates"):
            choices = _separate(row)
            question = f"{question}\n{listed(choices, '({letter}) {choice}')}\nOnly give the best option."
        return Sample(
            sample_id=row.row_id,
            video=str(self.shelf.find(row.text("video"))),
            question=question,
            choices=choices,
            answer=letter_of(answer, choices) if choices and answer else answer,
        )

    def score(self, sample: Sample, text: str) -> Scores:
        return score_choice(sample, text) if sample.choices else score_caption(sample, text)

    @classmethod
    def total_scores(cls, answers: Sequence[tuple[Sample, str]]) -> Scores:
        return score_captions([(sample, text) for sample, text in answers if not sample.choices])

    def passed_over(self) -> str:
        if self._questions is not None or not self.shelf.passed_over:
            return ""
        names = self.shelf.passed_over
        listed = ", ".join(brief(name, 60) for name in names[:3]) + ", ..." * (len(names) > 3)
        return f"not taken for videos in {self.source}: {len(names)} of the files and folders of runs there ({listed})"

    def _rows(self, subset: str) -> Iterator[Row]:
        if self._questions is None:
            if not self.shelf.names:
                nothing = f"data: {self.source} holds no rows: there is no file of questions and no video"
                raise OptionError(f"{nothing}; {self.passed_over()}".removesuffix("; "))
            return (Row(name, {"video": name, "question": PAPER_PROMPT}) for name in self.shelf.names)
        rows = list(super()._rows(subset))
        if not rows:
            raise OptionError(f"data: {self._questions} holds no rows")
        if not any(row.has("video") and row.has("question") for row in rows):
            raise OptionError(
                f"data: {self._questions} should have columns 'video' and 'question' with something in them, and has "
                f"{brief(', '.join(dict.fromkeys(name for row in rows for name in row.values))) or 'no columns'}"
            )
        return iter(rows)

    @property
    def _questions(self) -> Path | None:
        """The file of questions, if there is one."""
        files = (at_home(self.source) / name for name in QUESTIONS)
        return next((file for file in files if file.exists()), None)


def _separate(row: Row) -> tuple[str, ...]:
    """The options, which a csv can only hold as one text. Errors: UnreadableRowError."""
    if isinstance(row.values["candidates"], str):
        return tuple(choice.strip() for choice in row.text("candidates").split("|"))
    return row.texts("candidates")
