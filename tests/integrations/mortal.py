"""A pair whose process dies of one question. A file of its own, for it is sent to actors as it is."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any

import specvlm
from specvlm.answering.answer import Generation
from specvlm.answering.options import Options
from specvlm.pipeline import SpecVLM

FATAL = "what kills?"


def load(pair: Path, deaths: int, graves: Path) -> SpecVLM:
    """The pair in a folder. The first `deaths` processes that ask it FATAL die, each leaving a file in `graves`."""
    graves.mkdir(exist_ok=True)
    vlm = specvlm.load(pair / "target", pair / "draft", dtype="float32")
    return Mortal(vlm, deaths, graves)


class Mortal(SpecVLM):
    def __init__(self, vlm: SpecVLM, deaths: int, graves: Path) -> None:
        super().__init__(vlm.target, vlm.draft)
        self.deaths, self.graves = deaths, graves

    def stream(
        self, video: Any, question: str, options: Options | None = None, **overrides: Any
    ) -> Generator[str, None, Generation]:
        """Killed in the arm `sd`: what the arm `ar` said is known by then, and lost."""
        asked = Options.of(options, overrides)
        if question == FATAL and asked.pruning_ratio == 0.0 and len(list(self.graves.iterdir())) < self.deaths:
            (self.graves / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return (yield from super().stream(video, question, asked))
