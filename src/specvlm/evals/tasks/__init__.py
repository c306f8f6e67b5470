"""Tasks: published benchmarks, and anybody's videos."""

from specvlm.evals.tasks.base import PAPER_PROMPT, TASKS, Task, make_task
from specvlm.evals.tasks.folder import Folder
from specvlm.evals.tasks.longvideobench import LongVideoBench
from specvlm.evals.tasks.mlvu import MLVU
from specvlm.evals.tasks.mvbench import MVBench
from specvlm.evals.tasks.pocket import Pocket
from specvlm.evals.tasks.video_detail_caption import VideoDetailCaption
from specvlm.evals.tasks.videomme import VideoMME

__all__ = [
    "MLVU",
    "PAPER_PROMPT",
    "TASKS",
    "Folder",
    "LongVideoBench",
    "MVBench",
    "Pocket",
    "Task",
    "VideoDetailCaption",
    "VideoMME",
    "make_task",
]
