"""The race of the README: stock generate and SpecVLM write one answer, each at the pace that was measured."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

import torch
from transformers import LogitsProcessor, LogitsProcessorList

from specvlm.answering.options import Options
from specvlm.answering.oracle import stock_answer
from specvlm.answering.text import TextStream
from specvlm.comparing.words import words
from specvlm.engine.stats import Stats
from specvlm.errors import SpecVLMError
from specvlm.machine import machine, processor
from specvlm.pages import render
from specvlm.pipeline import SpecVLM

WATCHABLE = 6.0
"""Seconds that the slower lane takes on the screen at least: what was faster is shown slowed down, and says so."""
HELD = 4.0
"""Seconds that the finish stays on the screen."""
COLUMNS = 92
"""Letters of a line."""


@final
@dataclass(frozen=True)
class Lane:
    """One way to answer: pieces of text, and the seconds after the closed file at which each of them was known."""

    arm: str
    pieces: tuple[tuple[float, str], ...]

    @property
    def text(self) -> str:
        return "".join(text for _, text in self.pieces)

    @property
    def seconds(self) -> float:
        """Until the last token."""
        return self.pieces[-1][0]


@final
@dataclass(frozen=True)
class Race:
    """Two lanes over one answer, the slower first, and all that must be said of them."""

    lanes: tuple[Lane, Lane]
    question: str
    tokens: int
    repeats: int
    pair: str
    dtype: str
    processor: str
    threads: int
    """Of PyTorch."""

    @property
    def speedup(self) -> float:
        return self.lanes[0].seconds / self.lanes[1].seconds

    @property
    def slowed(self) -> float:
        """How many times slower than it was the race is shown."""
        return max(1.0, WATCHABLE / max(lane.seconds for lane in self.lanes))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_json(cls, told: dict[str, Any]) -> Race:
        first, second = (
            Lane(lane["arm"], tuple((float(at), str(text)) for at, text in lane["pieces"])) for lane in told["lanes"]
        )
        return cls(**{**told, "lanes": (first, second)})


class _Clock(LogitsProcessor):
    """Notes when stock generate knows what a token is chosen by, and leaves it as it is."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        self.times.append(time.perf_counter())
        return scores


PLANNED = Options(plan="auto", do_sample=False)


def measure(vlm: SpecVLM, video: Any, question: str, pair: str, repeats: int = 9, options: Options = PLANNED) -> Race:
    """Both answer in turns, and each lane is its middle run by time; a turn before them warms up.

    Errors: SpecVLMError if they don't say the same.
    """
    runs: list[tuple[Lane, Lane]] = []
    tokens: set[tuple[int, ...]] = set()
    for _ in range(repeats + 1):
        stock, theirs = _stock(vlm, video, question, options)
        ours, mine = _planned(vlm, video, question, options)
        runs.append((stock, ours))
        tokens |= {theirs, mine}
    if len(tokens) > 1:
        raise SpecVLMError(f"{pair} gave {len(tokens)} answers to {question!r}, and should give one")
    lanes = [middle([run[number] for run in runs[1:]]) for number in (0, 1)]
    return Race(
        lanes=(lanes[0], lanes[1]),
        question=question,
        tokens=len(tokens.pop()),
        repeats=repeats,
        pair=pair,
        dtype=str(vlm.target.model.dtype).removeprefix("torch."),
        processor=processor(machine(), vlm.pair.devices),
        threads=torch.get_num_threads(),
    )


def middle(lanes: Sequence[Lane]) -> Lane:
    """The median run, of an even number the slower of two."""
    return sorted(lanes, key=lambda lane: lane.seconds)[len(lanes) // 2]


def _stock(vlm: SpecVLM, video: Any, question: str, options: Options) -> tuple[Lane, tuple[int, ...]]:
    clock, start, stats = _Clock(), time.perf_counter(), Stats(vlm.target.devices)
    prompt = vlm.prepare(video, question, options, stats)
    said = stock_answer(vlm.target, prompt, options, stats, logits_processor=LogitsProcessorList([clock]))
    stream = TextStream(vlm.target.tokenizer)
    pieces = [(at - start, stream.add([token])) for at, token in zip(clock.times, said.token_ids, strict=True)]
    pieces.append((pieces[-1][0], stream.finish()[0]))  # half a letter at the end
    return Lane("ar", _shown(pieces)), said.token_ids


def _planned(vlm: SpecVLM, video: Any, question: str, options: Options) -> tuple[Lane, tuple[int, ...]]:
    start, pieces, answer = time.perf_counter(), [], vlm.stream(video, question, options)
    while True:
        try:
            piece = next(answer)
        except StopIteration as stop:
            return Lane("auto", _shown(pieces)), stop.value.token_ids
        pieces.append((time.perf_counter() - start, piece))


def _shown(pieces: Sequence[tuple[float, str]]) -> tuple[tuple[float, str], ...]:
    """Without pieces of no letter, such as the end token; milliseconds will do."""
    return tuple((round(at, 4), text) for at, text in pieces if text)


def svg(race: Race) -> str:
    """An animated picture without a script, which moves wherever pictures do. For readers who want no motion it stands
    still, finished."""
    cycle = race.slowed * max(lane.seconds for lane in race.lanes) + HELD
    lanes = [_drawn(race, lane, cycle) for lane in race.lanes]
    return render(
        "race.svg",
        race=race,
        cycle=round(cycle, 2),
        lanes=lanes,
        finish=_percent(race, race.lanes[0].seconds, cycle),
        num_lines=1 + max(line for lane in lanes for _, said in lane["steps"] for line, _, _ in said),
    )


def _drawn(race: Race, lane: Lane, cycle: float) -> dict[str, Any]:
    """A lane as steps: when each begins in percent of the cycle, and the words (line, column, text) that come then."""
    lines = textwrap.wrap(lane.text, COLUMNS, drop_whitespace=False, expand_tabs=False)
    places = [(row, column) for row, line in enumerate(lines) for column in range(len(line))]
    steps, at = [], 0
    for seconds, text in lane.pieces:
        steps.append((_percent(race, seconds, cycle), list(_words(text, places[at : at + len(text)]))))
        at += len(text)
    return {
        "name": words(lane.arm),
        "seconds": lane.seconds,
        "end": _percent(race, lane.seconds, cycle),
        "steps": steps,
    }


def _words(text: str, places: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, str]]:
    """A piece of text by the lines that it is on."""
    for line in dict.fromkeys(row for row, _ in places):
        mine = [number for number, (row, _) in enumerate(places) if row == line]
        part = "".join(text[number] for number in mine)
        column = places[mine[0]][1] + len(part) - len(part.lstrip())
        if part.strip():
            yield line, column, part.strip()


def _percent(race: Race, seconds: float, cycle: float) -> float:
    return round(100 * seconds * race.slowed / cycle, 3)
