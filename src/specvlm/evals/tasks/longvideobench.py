"""LongVideoBench: `video_path`, `question`, `correct_choice`, `subtitle_path`, `duration`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

from specvlm.evals.grading.choices import LETTERS, score_choice
from specvlm.evals.rows import Row, UnreadableRowError
from specvlm.evals.sample import Sample, Scores
from specvlm.evals.tasks.base import Task, register
from specvlm.evals.tasks.lettering import listed

FILES = {"validation": "lvb_val.json", "test": "lvb_test_wo_gt.json"}


@register
@final
@dataclass(frozen=True, kw_only=True)
class LongVideoBench(Task):
    """Questions that refer to moments of long videos, with up to five options.

    Wu et al. (arXiv:2407.15754). Frames only: its authors put subtitles between frames, which one video can't have. The
    test split is published without answers, so that it isn't graded.
    """

    name: ClassVar[str] = "longvideobench"
    hub_id: ClassVar[str] = "longvideobench/LongVideoBench"
    split_published: ClassVar[str] = "validation"

    def patterns(self, subset: str) -> Sequence[str]:
        named = FILES.get(self.split or self.split_published, "{split}.json")
        return [f"**/{named}", "**/{split}-*.parquet", "**/{split}.parquet", "**/{split}.jsonl"]

    def sample(self, row: Row) -> Sample:
        video = self.shelf.find(row.text("video_path"), within="videos")
        if row.has("candidates"):
            choices = row.texts("candidates")
        else:
            numbered = (row.values.get(f"option{number}") for number in range(len(LETTERS)))
            choices = tuple(str(choice) for choice in numbered if choice not in (None, "", "N/A"))
        if not choices:
            raise UnreadableRowError("there are no options, neither as 'candidates' nor as 'option0', 'option1', ...")
        question = f"Question: {row.text('question')}\n{listed(choices, '{letter}. {choice}')}"
        return Sample(
            sample_id=row.row_id,
            video=str(video),
            question=f"{question}\nAnswer with the option's letter from the given choices directly.",
            choices=choices,
            answer=_letter(row.values.get("correct_choice"), choices),
            group=row.text("question_category") if row.has("question_category") else "",
        )

    def score(self, sample: Sample, text: str) -> Scores:
        return score_choice(sample, text)


def _letter(number: Any, choices: tuple[str, ...]) -> str:
    """The right option is given by its number, counted from 0; none, or -1, where it is kept secret."""
    if number in (None, -1, ""):
        return ""
    if not isinstance(number, (int, str)) or not str(number).isdecimal() or int(number) >= len(choices):
        raise UnreadableRowError(f"'correct_choice' should be a number from 0 to {len(choices) - 1}, and is {number!r}")
    return LETTERS[int(number)]
