"""Every kind of input that is tried, by its name."""

from __future__ import annotations

from fuzz.case import Generator
from fuzz.generators import api, checkpoints, data, options, questions, runs, system, videos

KINDS: dict[str, Generator] = {
    "options": options.cases,
    "questions": questions.cases,
    "data": data.cases,
    "videos": videos.cases,
    "python": api.cases,
    "checkpoints": checkpoints.cases,
    "runs": runs.cases,
    "system": system.cases,
}
