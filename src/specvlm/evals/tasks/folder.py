"""Anybody's videos: a folder, and a file of questions if there is one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

from specvlm.evals.captions import score_caption, score_captions
from specvlm.evals.choices import score_choice
from specvlm.evals.rows import Row
from specvlm.evals.sample import Sample, Scores
from specvlm.evals.tasks.base import PAPER_PROMPT, Task, register
from specvlm.evals.tasks.lettering import letter_of, listed

QUESTIONS = ("questions.jsonl", "questions.csv", "questions.json", "questions.parquet")


@register
@final
@dataclass(frozen=True, kw_only=True)
class Folder(Task):
    """Any folder of videos, with your own questions or none.

    `questions.csv` or `questions.jsonl` beside the videos has the columns `video` and `question`, and may have `answer`
    and `candidates` (in csv separated by `|`): then answers are graded, by the option or as a description. Without such
    a file every video is described.
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

    def _rows(self, subset: str) -> Iterator[Row]:
        if any((Path(self.source).expanduser() / name).exists() for name in QUESTIONS):
            return super()._rows(subset)
        return (Row(name, {"video": name, "question": PAPER_PROMPT}) for name in self.shelf.names)


def _separate(row: Row) -> tuple[str, ...]:
    """The options, which a csv can only hold as one text. Errors: UnreadableRowError."""
    if isinstance(row.values["candidates"], str):
        return tuple(choice.strip() for choice in row.text("candidates").split("|"))
    return row.texts("candidates")
