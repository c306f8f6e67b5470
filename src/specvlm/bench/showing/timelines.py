"""The timeline of one answer: what is decoded, prepared, seen and read when, on the way to its first token."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, final

import torch

from specvlm.answering.options import Options
from specvlm.drawing import figures
from specvlm.drawing.themes import LIGHT, Theme
from specvlm.drawing.timeline import BESIDE, HEIGHT, lanes, timeline
from specvlm.engine.stats import Span, timing_phases
from specvlm.machine import machine, processor
from specvlm.pipeline import SpecVLM

AFTER = 1.06
"""Of the rounds behind the first token so much is shown, in times until then."""


@final
@dataclass(frozen=True)
class Timeline:
    """The middle one of some answers to a question, by the time to its first token."""

    spans: tuple[Span, ...]
    ttft_seconds: float
    question: str
    pair: str
    processor: str
    threads: int
    """Of PyTorch."""
    repeats: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_json(cls, told: dict[str, Any]) -> Timeline:
        return cls(**{**told, "spans": tuple(Span(*span) for span in told["spans"])})

    def overlap(self, one: str, other: str) -> float:
        """Seconds in which both were done."""
        mine, theirs = ([span for span in self.spans if span.name == name] for name in (one, other))
        return sum(max(0.0, min(a.end, b.end) - max(a.start, b.start)) for a in mine for b in theirs)


def measure(vlm: SpecVLM, video: Any, question: str, pair: str, options: Options, repeats: int = 5) -> Timeline:
    """After an answer that warms up."""
    with timing_phases():
        answers = [vlm.generate(video, question, options) for _ in range(repeats + 1)][1:]
    answers.sort(key=lambda answer: answer.stats.ttft_seconds)
    stats = answers[repeats // 2].stats
    return Timeline(
        spans=tuple(Span(span.name, round(span.start, 5), round(span.end, 5)) for span in stats.timeline),
        ttft_seconds=round(stats.ttft_seconds, 5),
        question=question,
        pair=pair,
        processor=processor(machine(), vlm.pair.devices),
        threads=torch.get_num_threads(),
        repeats=repeats,
    )


def svg(found: Timeline, theme: Theme = LIGHT) -> str:
    """Errors: OptionError without matplotlib."""
    with figures.new_figure(8.0, HEIGHT * len(lanes(found.spans)) + BESIDE, theme) as figure:
        axes = figure.add_subplot()
        timeline(axes, theme, found.spans, found.ttft_seconds, AFTER * found.ttft_seconds)
        return figures.as_svg(figure)
