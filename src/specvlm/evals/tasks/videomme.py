"""Video-MME: `videoID`, `question`, `options`, `answer`, `duration`, `task_type`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from specvlm.evals.grading.choices import LETTERS, score_choice
from specvlm.evals.rows import Row
from specvlm.evals.sample import Sample, Scores
from specvlm.evals.tasks.base import Task, register
from specvlm.evals.tasks.lettering import letter_of, without_letter

INSTRUCTION = (
    "Select the best answer to the following multiple-choice question based on the video. Respond with only the letter "
    "(A, B, C, or D) of the correct option."
)


@register
@final
@dataclass(frozen=True, kw_only=True)
class VideoMME(Task):
    """Questions with four options about videos of a minute to an hour, without subtitles.

    Fu et al. (arXiv:2405.21075). Scores are also told by the length of the video.
    """

    name: ClassVar[str] = "videomme"
    hub_id: ClassVar[str] = "lmms-lab/Video-MME"

    def patterns(self, subset: str) -> Sequence[str]:
        kinds = ("parquet", "jsonl", "json")
        return [f"**/{{split}}{parts}.{kind}" for kind in kinds for parts in ("-*", "")]

    def sample(self, row: Row) -> Sample:
        video = self.shelf.find(row.text("videoID"), within="data")
        lines = row.texts("options")
        choices = tuple(without_letter(line, letter) for letter, line in zip(LETTERS, lines, strict=False))
        question = "\n".join((INSTRUCTION, row.text("question"), *lines, "The best answer is:"))
        return Sample(
            sample_id=row.row_id,
            video=str(video),
            question=question,
            choices=choices,
            answer=letter_of(row.text("answer"), choices),
            group=row.text("duration"),
        )

    def score(self, sample: Sample, text: str) -> Scores:
        return score_choice(sample, text)
