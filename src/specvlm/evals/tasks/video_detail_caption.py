"""Detailed captions: `video_name`, `question`, `answer`, and a folder Test_Videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from specvlm.evals.grading.captions import score_caption, score_captions
from specvlm.evals.rows import Row
from specvlm.evals.sample import Sample, Scores
from specvlm.evals.tasks.base import Task, register

VIDEOS = "Test_Videos"


@register
@final
@dataclass(frozen=True, kw_only=True)
class VideoDetailCaption(Task):
    """Describes videos in detail; chrF++ and BLEU against one reference each.

    Videos and captions of Video-ChatGPT's benchmark (Maaz et al., arXiv:2306.05424). What is asked stands in the row.
    """

    name: ClassVar[str] = "video_detail_caption"
    hub_id: ClassVar[str] = "lmms-lab/VideoDetailCaption"

    def patterns(self, subset: str) -> Sequence[str]:
        return PATTERNS

    def sample(self, row: Row) -> Sample:
        return caption_sample(self, row)

    def score(self, sample: Sample, text: str) -> Scores:
        return score_caption(sample, text)

    @classmethod
    def total_scores(cls, answers: Sequence[tuple[Sample, str]]) -> Scores:
        return score_captions(answers)


PATTERNS = tuple(f"**/{{split}}{parts}.{kind}" for kind in ("parquet", "jsonl", "json") for parts in ("-*", ""))


def caption_sample(task: Task, row: Row) -> Sample:
    """A row of this layout, whichever task it belongs to. Errors: UnreadableRowError, MissingVideoError."""
    return Sample(
        sample_id=row.row_id,
        video=str(task.shelf.find(row.text("video_name"), within=VIDEOS)),
        question=row.text("question"),
        answer=row.text("answer"),
    )
