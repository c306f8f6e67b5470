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
from itertools import count
from pathlib import Path
from typing import Any

import torch

from specvlm.answering.options import Options
from specvlm.answering.stage import require_compile
from specvlm.bench import roofline
from specvlm.bench.growth import growths
from specvlm.bench.limits import standing, typical
from specvlm.bench.roofline import Demand, Machine
from specvlm.bench.steps import ROWS, Step, measure_steps
from specvlm.bench.widened import footage
from specvlm.bench.widened.footage import TRAINED_FRAMES, Footage
from specvlm.bench.widened.shapes import PAIRS
from specvlm.bench.widened.subjects import Subject, build, loaded, name_of, require, without_end
from specvlm.comparing.arms import find
from specvlm.comparing.compare import Comparison, compare, require_repeats
from specvlm.comparing.record import document
from specvlm.errors import OptionError
from specvlm.families import Family
from specvlm.families.loading import device_of
from specvlm.machine import processor

ARMS = ("ar", "loop", "assisted", "prompt_lookup", "sd", "specvlm", "chain", "paper", "auto")
RATIOS = (0.9,)
NEW_TOKENS = (128,)
REAL_VIDEO_TOKENS = (3000,)
DTYPES = ("bfloat16", "float32")
REPEATS = 3

WARM_UP_FRAMES = 4
"""Of the film that a large pair is warmed up with: a whole prompt would take minutes in each arm."""

SHORT = 300
"""Cached tokens of the shorter of the two series of single forwards."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What is to be measured: a `pair` of `specvlm.bench.widened.subjects`, or any two checkpoints. Errors:
    OptionError."""

    pair: str | None = None
    target: str | None = None
    draft: str | None = None
    device: str = "auto"
    device_map: str | None = None
    """Where the models go, as `specvlm.load` has it."""
    compile: str = "auto"
    """As `specvlm.load` has it."""
    video_tokens: tuple[int, ...] = ()
    """About so many in a prompt; none: as many as 32 frames have, or 3,000 for a widened pair."""
    new_tokens: tuple[int, ...] = NEW_TOKENS
    ratios: tuple[float, ...] = RATIOS
    arms: tuple[str, ...] = ARMS
    dtype: str | None = None
    """None: float32 for an embedded pair, bfloat16 for any other."""
    repeats: int = REPEATS
    exact_length: bool = False
    share_reading: bool = False
    """Whether the arms of a turn share one reading of the video (`specvlm.watching.shared_reading`)."""
    rows: tuple[int, ...] = ROWS
    cached: tuple[int, ...] = ()
    """Behind how many tokens single forwards are measured; none: behind few, and behind the longest prompt."""
    options: Options = field(default_factory=lambda: Options(do_sample=False))

    def __post_init__(self) -> None:
        if (self.pair is None) == (self.target is None) or (self.target is None) != (self.draft is None):
            given = ", ".join(f"{name}={getattr(self, name)!r}" for name in ("pair", "target", "draft"))
            raise OptionError(f"name a pair, or else a target and a draft, not {given}")
        require_compile(self.compile)
        if self.device != "auto" and self.device_map is not None:
            raise OptionError(f"device={self.device!r} and device_map={self.device_map!r} both say where: give one")
        if self.dtype not in (None, *DTYPES):
            raise OptionError(f"dtype must be {' or '.join(DTYPES)}, not {self.dtype!r}")
        for name in ("video_tokens", "new_tokens", "rows", "cached"):
            if any(count < 1 for count in getattr(self, name)):
                raise OptionError(f"{name} must be 1 or more each, not {', '.join(map(str, getattr(self, name)))}")
        if not self.new_tokens:
            raise OptionError("new_tokens: name at least one length of an answer")
        if not self.ratios and "specvlm" in self.arms:
            raise OptionError("ratios: name at least one, for each makes an arm out of specvlm; or leave that arm out")
        require_repeats(self.repeats)
        for arm in self.all_arms:
            find(arm)

    @property
    def where(self) -> str | None:
        """The device map that is asked for, by this name or as a device; None: as `specvlm.load` thinks best."""
        return None if self.device == "auto" and self.device_map is None else self.device_map or self.device

    @property
    def name(self) -> str:
        """Of what is measured."""
        return self.pair or name_of(str(self.target), str(self.draft))

    @property
    def all_arms(self) -> tuple[str, ...]:
        """Each ratio makes an arm of its own out of `specvlm`. `loop` is always there: a limit is measured by it."""
        arms = []
        for arm in self.arms:
            arms += [f"specvlm@{ratio:g}" for ratio in self.ratios] if arm == "specvlm" else [arm]
        return tuple(dict.fromkeys(("ar", "loop", *arms)))

    @property
    def torch_dtype(self) -> torch.dtype:
        embedded = self.pair is not None and self.pair not in PAIRS
        return getattr(torch, self.dtype or ("float32" if embedded else "bfloat16"))


@dataclass(frozen=True)
class Cell:
    """One prompt and one length of answer, in all arms."""

    video_tokens: int
    new_tokens: int
    footage: Footage
    comparison: Comparison


Say = Callable[[str], None]


Count = Callable[[int, int], None]


def run(setup: Setup, say: Say = lambda what: None, on_run: Count = lambda done, most: None) -> dict[str, Any]:
    """Build the pair and measure it. `say` is told what is going on; `on_run`, before each answer that is measured and
    behind the last, how many are done, of how many at the most. Errors: OptionError, ModelError."""
    if setup.pair is not None:
        require(setup.pair)
    device = device_of(setup.where or "auto")
    say("Measuring the machine")
    machine = roofline.measure(dtype=setup.torch_dtype, device=device)  # before the weights need the memory
    say(f"Building {setup.name}")
    if setup.pair is not None:
        subject = build(setup.pair, setup.torch_dtype, setup.where, setup.compile)
    else:
        checkpoints = (str(setup.target), str(setup.draft))
        subject = loaded(setup.name, *checkpoints, setup.torch_dtype, setup.where, setup.compile)
    return measure(subject, setup, machine, say, on_run=on_run)


def measure(
    subject: Subject,
    setup: Setup,
    machine: Machine,
    say: Say = lambda what: None,
    has_time: Callable[[], bool] = lambda: True,
    on_run: Count = lambda done, most: None,
) -> dict[str, Any]:
    """The document of a pair that is loaded already. With `exact_length` its models lose the end of their answers.

    What is left to do when `has_time` says no is left out, and the document names it.
    """
    if setup.exact_length:
        without_end(subject)
    vlm = subject.vlm
    usual = REAL_VIDEO_TOKENS if subject.widened else (footage.num_video_tokens(vlm, TRAINED_FRAMES),)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        wanted = [(v, n) for v in setup.video_tokens or usual for n in setup.new_tokens]
        shot = [(v, n, footage.shoot(vlm, folder, v, n, blanks=subject.widened)) for v, n in wanted]
        most = len(shot) * len(setup.all_arms) * setup.repeats
        runs = count()

        def begin(what: str) -> None:
            say(what)
            on_run(min(next(runs), most), most)  # where cuDNN attends, stock generate has one more arm

        cells = [Cell(v, n, film, _compare(subject, setup, film, n, say, begin, has_time)) for v, n, film in shot]
        on_run(most, most)
    say("Measuring single forwards")
    longest = max(typical(cell.comparison.runs["ar"]).num_prompt_tokens for cell in cells)
    lengths = setup.cached or ((SHORT, longest) if longest > 2 * SHORT else (longest,))
    steps = [
        step
        for cached in lengths
        if has_time()
        for step in measure_steps(vlm.target, cached, setup.rows, setup.repeats)
    ]
    return _document(subject, setup, machine, cells, steps)


def _compare(
    subject: Subject,
    setup: Setup,
    film: Footage,
    new_tokens: int,
    say: Say,
    begin: Say,
    has_time: Callable[[], bool],
) -> Comparison:
    options = Options.of(setup.options, {"num_frames": film.num_frames, "max_new_tokens": new_tokens})
    brief = subject.vlm.load_video(film.path, num_frames=WARM_UP_FRAMES) if subject.slow else None
    say(f"Warming up for {film.num_frames} frames")
    turn = count(1)
    return compare(
        subject.vlm,
        film.path,
        film.question,
        options,
        arms=setup.all_arms,
        repeats=setup.repeats,
        warm_up=brief,
        share_reading=setup.share_reading,
        on_run=lambda arm: begin(f"{film.num_frames} frames, {new_tokens} tokens, run {next(turn)}: {arm}"),
        has_time=has_time,
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
            "compile": subject.vlm.pair.compile,
            "processor": processor(base["machine"], subject.vlm.pair.devices),
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
                "baselines": cell.comparison.baselines,
                "left_out": list(cell.comparison.left_out),
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
    plain = found[cell.comparison.baselines["decode_speedup"]]
    for name, arm in found.items():
        runs = cell.comparison.runs[name]
        stands = standing(arm, runs, plain, found.get("loop"), demands, machine)
        yield asdict(arm) | {
            "video_tokens": cell.video_tokens,
            "new_tokens": cell.new_tokens,
            "num_prompt_tokens": runs[0].stats.num_prompt_tokens,
            "roofline": asdict(stands),
        }
