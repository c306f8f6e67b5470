"""One reading of a video, for several ways to answer: the same work, done once and counted to each of them.

A target that reads 3,000 video tokens does so in the same way whatever drafts for it. Where that takes minutes, arms
that are measured against one another needn't each wait for it.
"""

from __future__ import annotations

from typing import Any, final

from specvlm.answering.answer import Generation
from specvlm.answering.answerer import Answerer
from specvlm.answering.options import Options
from specvlm.watching.watched import Memory, Watched

READING = ("decode_video", "preprocess", "vision_target", "prefill_target")
"""Phases that hang on the video and the target alone."""


@final
class SharedReading:
    """A video that is read for the first answer. Later ones are charged for what they were spared.

    What the draft's tower has seen is remembered too, and not charged: which frames it looks at hangs on the way.
    """

    def __init__(self, video: Any, options: Options) -> None:
        self._video, self._options, self._memory = video, options, Memory()
        self._spent: dict[str, float] = {}

    def ask(self, vlm: Answerer, question: str, options: Options) -> Generation:
        """Always of the same target, with any draft or none. Errors: OptionError, VideoError."""
        found = Watched(vlm, self._video, self._options, lambda: self._memory).ask(question, options)
        for name in READING:
            own = found.stats.phases.get(name, 0.0)
            found.stats.charge(name, max(0.0, self._spent.setdefault(name, own) - own))
        return found
