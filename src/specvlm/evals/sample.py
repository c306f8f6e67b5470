"""Sample: one question about one video, as it will be asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

Scores = Mapping[str, tuple[float, float]]
"""How right one answer is: points and possible points by the name of the score. The share of a whole run is the sum of
points over the sum of possible points."""


@final
@dataclass(frozen=True, kw_only=True)
class Sample:
    """A question with what is needed to ask and to grade it. Plain values all: it may travel to another process.

    `span` are the seconds of the video that are asked about, None for all of it. `choices` are the options of a
    multiple choice question, and `answer` is then the letter of the right one; otherwise it is a reference text, and
    empty where none is known. `group` is the kind of question, by which scores are also summed. `problem` says what is
    wrong with a row that can't be asked, in one line.
    """

    sample_id: str
    video: str = ""
    span: tuple[float, float] | None = None
    question: str = ""
    system: str | None = None
    choices: tuple[str, ...] = ()
    answer: str = ""
    group: str = ""
    problem: str | None = None
