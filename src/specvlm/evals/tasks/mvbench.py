"""MVBench: `video`, `question`, `candidates`, `answer` in a file for each of twenty kinds of question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from specvlm.evals.grading.choices import score_choice
from specvlm.evals.rows import Row
from specvlm.evals.sample import Sample, Scores
from specvlm.evals.tasks.base import Task, register
from specvlm.evals.tasks.lettering import letter_of, listed

SYSTEM = (
    "Carefully watch the video and pay attention to the cause and sequence of events, the detail and movement of "
    "objects, and the action and pose of persons. Based on your observations, select the best option that accurately "
    "addresses the question."
)
FOLDERS = {
    "action_sequence": "star/Charades_segment",
    "action_prediction": "star/Charades_segment",
    "action_antonym": "ssv2_video_mp4",
    "fine_grained_action": "Moments_in_Time_Raw/videos",
    "unexpected_action": "FunQA_test/test",
    "object_existence": "clevrer/video_validation",
    "object_interaction": "star/Charades_segment",
    "object_shuffle": "perception/videos",
    "moving_direction": "clevrer/video_validation",
    "action_localization": "sta/sta_video_segment",
    "scene_transition": "scene_qa/video",
    "action_count": "perception/videos",
    "moving_count": "clevrer/video_validation",
    "moving_attribute": "clevrer/video_validation",
    "state_change": "perception/videos",
    "fine_grained_pose": "nturgbd_convert",
    "character_order": "perception/videos",
    "egocentric_navigation": "vlnqa",
    "episodic_reasoning": "tvqa/video_fps3_hq_segment",
    "counterfactual_inference": "clevrer/video_validation",
}
"""The folder of each subset's videos, as its archives unpack. Where several are called alike, this one is meant."""


@register
@final
@dataclass(frozen=True, kw_only=True)
class MVBench(Task):
    """Twenty kinds of questions about short videos, with two to five options.

    Li et al. (arXiv:2311.17005). Where a row has a `start` and an `end` and its video isn't cut to them, as in the
    archives whose folders are called segments, only the frames between them are looked at.
    """

    name: ClassVar[str] = "mvbench"
    hub_id: ClassVar[str] = "OpenGVLab/MVBench"
    split_published: ClassVar[str] = "train"
    all_subsets: ClassVar[tuple[str, ...]] = tuple(FOLDERS)

    def patterns(self, subset: str) -> Sequence[str]:
        return [f"json/{subset}.json", f"**/{subset}.json", f"**/{subset}.jsonl"]

    def sample(self, row: Row) -> Sample:
        video = self.shelf.find(row.text("video"), within=FOLDERS[row.subset])
        choices = row.texts("candidates")
        span = None
        if row.has("start") and row.has("end") and not any("segment" in folder for folder in video.parts[:-1]):
            span = (float(row.text("start")), float(row.text("end")))
        question = f"Question: {row.text('question')}\nOptions:\n{listed(choices, '({letter}) {choice}')}"
        return Sample(
            sample_id=row.row_id,
            video=str(video),
            span=span,
            question=f"{question}\nOnly give the best option.\nBest option: (",
            system=SYSTEM,
            choices=choices,
            answer=letter_of(row.text("answer"), choices),
            group=row.subset,
        )

    def score(self, sample: Sample, text: str) -> Scores:
        return score_choice(sample, text)
