"""The bench: every arm on prompts and answers of several lengths, in one process and one run.

`measure` returns one JSON document (DESIGN: one record for a measured arm), from which all tables, plots and pages are
made; nothing is known to them that isn't in it.
"""

from __future__ import annotations

import datetime
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from specvlm.answering.options import Options
from specvlm.bench import roofline
from specvlm.bench.growth import growths
from specvlm.bench.limits import standing, typical
from specvlm.bench.roofline import Demand, Machine
from specvlm.bench.steps import ROWS, Step, measure_steps
from specvlm.bench.widened import footage
from specvlm.bench.widened.footage import TRAINED_FRAMES, Footage
from specvlm.bench.widened.shapes import PAIRS
from specvlm.bench.widened.subjects import Subject, build, require, without_end
from specvlm.comparing.arms import find
from specvlm.comparing.compare import Comparison, compare
from specvlm.comparing.record import document
from specvlm.errors import OptionError
from specvlm.families import Family

ARMS = ("ar", "loop", "assisted", "prompt_lookup", "sd", "specvlm", "chain", "paper", "auto")
RATIOS = (0.9,)
NEW_TOKENS = (128,)
REAL_VIDEO_TOKENS = (3000,)
DTYPES = ("bfloat16", "float32")
REPEATS = 3

WARM_UP_FRAMES = 4
"""Of the film that a widened pair is warmed up with: a whole prompt would take minutes in each arm."""

SHORT = 300
"""Cached tokens of the shorter of the two series of single forwards."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What is to be measured. Errors: OptionError."""

    pair: str
    video_tokens: tuple[int, ...] = ()
    """About so many in a prompt; none: as many as 32 frames have, or 3,000 for a widened pair."""
    new_tokens: tuple[int, ...] = NEW_TOKENS
    ratios: tuple[float, ...] = RATIOS
    arms: tuple[str, ...] = ARMS
    dtype: str | None = None
    """None: float32 for an embedded pair, bfloat16 for a widened one."""
    repeats: int = REPEATS
    exact_length: bool = False
    share_reading: bool = False
    """Whether the arms of a turn share one reading of the video (`specvlm.watching.shared_reading`)."""
    rows: tuple[int, ...] = ROWS
    cached: tuple[int, ...] = ()
    """Behind how many tokens single forwards are measured; none: behind few, and behind the longest prompt."""
    options: Options = field(default_factory=lambda: Options(do_sample=False))

    def __post_init__(self) -> None:
        if self.dtype not in (None, *DTYPES):
            raise OptionError(f"dtype must be {' or '.join(DTYPES)}, not {self.dtype!r}")
        for name in ("video_tokens", "new_tokens", "rows", "cached"):
            if any(count < 1 for count in getattr(self, name)):
                raise OptionError(f"{name} must be 1 or more each, not {', '.join(map(str, getattr(self, name)))}")
        if not self.new_tokens:
            raise OptionError("new_tokens: name at least one length of an answer")
        if self.repeats < 1:
            raise OptionError(f"repeats must be 1 or more, not {self.repeats}")
        for arm in self.all_arms:
            find(arm)

    @property
    def all_arms(self) -> tuple[str, ...]:
        """Each ratio makes an arm of its own out of `specvlm`. `loop` is always there: a limit is measured by it."""
        arms = []
        for arm in self.arms:
            arms += [f"specvlm@{ratio:g}" for ratio in self.ratios] if arm == "specvlm" else [arm]
        return tuple(dict.fromkeys(("ar", "loop", *arms)))

    @property
    def torch_dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype or ("bfloat16" if self.pair in PAIRS else "float32"))


@dataclass(frozen=True)
class Cell:
    """One prompt and one length of answer, in all arms."""

    video_tokens: int
    new_tokens: int
    footage: Footage
    comparison: Comparison


Say = Callable[[str], None]


def run(setup: Setup, say: Say = lambda what: None) -> dict[str, Any]:
    """Build the pair and measure it. `say` is told what is going on. Errors: OptionError."""
    require(setup.pair)
    say("Measuring the machine")
    machine = roofline.measure(dtype=setup.torch_dtype)  # before the weights need the memory
    say(f"Building {setup.pair}")
    return measure(build(setup.pair, setup.torch_dtype), setup, machine, say)


def measure(subject: Subject, setup: Setup, machine: Machine, say: Say = lambda what: None) -> dict[str, Any]:
    """The document of a pair that is loaded already. With `exact_length` its models lose the end of their answers."""
    if setup.exact_length:
        without_end(subject)
    vlm = subject.vlm
    usual = REAL_VIDEO_TOKENS if subject.widened else (footage.num_video_tokens(vlm, TRAINED_FRAMES),)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        wanted = [(v, n) for v in setup.video_tokens or usual for n in setup.new_tokens]
        shot = [(v, n, footage.shoot(vlm, folder, v, n, blanks=subject.widened)) for v, n in wanted]
        cells = [Cell(v, n, film, _compare(subject, setup, film, n, say)) for v, n, film in shot]
    say("Measuring single forwards")
    longest = max(typical(cell.comparison.runs["ar"]).num_prompt_tokens for cell in cells)
    lengths = setup.cached or ((SHORT, longest) if longest > 2 * SHORT else (longest,))
    steps = [step for cached in lengths for step in measure_steps(vlm.target, cached, setup.rows, setup.repeats)]
    return _document(subject, setup, machine, cells, steps)


def _compare(subject: Subject, setup: Setup, film: Footage, new_tokens: int, say: Say) -> Comparison:
    options = Options.of(setup.options, {"num_frames": film.num_frames, "max_new_tokens": new_tokens})
    brief = subject.vlm.load_video(film.path, num_frames=WARM_UP_FRAMES) if subject.widened else None
    say(f"Warming up for {film.num_frames} frames")
    turn = iter(range(1, 1 + setup.repeats * len(setup.all_arms)))
    return compare(
        subject.vlm,
        film.path,
        film.question,
        options,
        arms=setup.all_arms,
        repeats=setup.repeats,
        warm_up=brief,
        share_reading=setup.share_reading,
        on_run=lambda arm: say(f"{film.num_frames} frames, {new_tokens} tokens, run {next(turn)}: {arm}"),
    )


def _document(
    subject: Subject,
    setup: Setup,
    machine: Machine,
    cells: Sequence[Cell],
    steps: Sequence[Step],
) -> dict[str, Any]:
    arms = [(cell, record) for cell in cells for record in _records(subject, machine, cell)]
    base = document([], setup.options)
    points = [
        (cell.video_tokens, cell.new_tokens, typical(cell.comparison.runs[arm.arm]).num_prompt_tokens, arm)
        for cell in cells
        for arm in cell.comparison.arms
    ]
    return base | {
        "arms": [record for _, record in arms],
        "bench": {
            "pair": subject.name,
            "about": subject.about,
            "dtype": str(setup.torch_dtype).removeprefix("torch."),
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
            "repeats": setup.repeats,
            "exact_length": setup.exact_length,
            "share_reading": setup.share_reading,
        },
        "cells": [
            {
                "video_tokens": cell.video_tokens,
                "new_tokens": cell.new_tokens,
                "num_frames": cell.footage.num_frames,
                "num_blank_frames": cell.footage.num_blank,
                "film": cell.footage.film,
                "question": cell.footage.question,
                "answer": cell.comparison.generations["ar"].text,
                "finish_reason": cell.comparison.generations["ar"].finish_reason,
                "refused": cell.comparison.refused,
            }
            for cell in cells
        ],
        "machine": base["machine"]
        | {"bytes_per_second": float(machine.bandwidth), "operations_per_second": float(machine.flops)},
        "costs": {
            "steps": [asdict(step) for step in steps],
            "growth": [asdict(growth) for growth in growths(points, steps)],
        },
    }


def _records(subject: Subject, machine: Machine, cell: Cell) -> Iterator[dict[str, Any]]:
    """The arms of a cell, each with its place under the roofline."""
    draft = subject.vlm.draft
    demands = (
        Demand.of_model(subject.vlm.target.model),
        Demand.of_model(draft.model) if isinstance(draft, Family) else None,
    )
    found = {arm.arm: arm for arm in cell.comparison.arms}
    for name, arm in found.items():
        runs = cell.comparison.runs[name]
        stands = standing(arm, runs, found["ar"], found.get("loop"), demands, machine)
        yield asdict(arm) | {
            "video_tokens": cell.video_tokens,
            "new_tokens": cell.new_tokens,
            "num_prompt_tokens": runs[0].stats.num_prompt_tokens,
            "roofline": asdict(stands),
        }
