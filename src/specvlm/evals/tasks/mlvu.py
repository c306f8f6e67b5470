"""MLVU: `video_name`, `question`, `task_type`, `answer`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from specvlm.evals.grading.choices import score_choice
from specvlm.evals.rows import Row, UnreadableRowError
from specvlm.evals.sample import Sample, Scores
from specvlm.evals.tasks.base import Task, register
from specvlm.evals.tasks.lettering import letter_of, listed

SYSTEM = (
    "Carefully watch this video and pay attention to every detail. Based on your observations, select the best option "
    "that accurately addresses the question."
)
_OPTION = re.compile(r"^\s*\(?([A-F])[).:]\s*(.*?)\s*$", re.MULTILINE)


@register
@final
@dataclass(frozen=True, kw_only=True)
class MLVU(Task):
    """Multiple choice questions about long videos.

    Zhou et al. (arXiv:2406.04264). Its rows are published in two forms: the options inside the `question` and a letter
    as `answer`, or the options as `candidates` and one of them as `answer`.
    """

    name: ClassVar[str] = "mlvu"
    hub_id: ClassVar[str] = "sy1998/MLVU_dev"

    def patterns(self, subset: str) -> Sequence[str]:
        kinds = ("parquet", "jsonl", "json")
        named = [f"**/{{split}}{parts}.{kind}" for kind in kinds for parts in ("-*", "")]
        return [*named, "json/*.json", "**/json/*.json"]

    def sample(self, row: Row) -> Sample:
        video = self.shelf.find(row.text("video_name", "video"))
        question = row.text("question").strip()
        if row.has("candidates"):
            choices = row.texts("candidates")
            if not _OPTION.search(question):
                question = f"Question: {question}\nOptions:\n{listed(choices, '({letter}) {choice}')}"
        else:
            choices = tuple(match[2] for match in _OPTION.finditer(question))
        if not choices:
            raise UnreadableRowError(f"there are no options, neither as 'candidates' nor in the question {question!r}")
        return Sample(
            sample_id=row.row_id,
            video=str(video),
            question=f"{question}\nOnly give the best option.\nBest option: (",
            system=SYSTEM,
            choices=choices,
            answer=letter_of(row.text("answer"), choices),
            group=row.text("task_type", "question_type"),
        )

    def score(self, sample: Sample, text: str) -> Scores:
        return score_choice(sample, text)
