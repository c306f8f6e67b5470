"""What one GPU does with all of it, in minutes: `python -m specvlm.bench.gpu`.

A list of things to measure, the most telling first. Each is written as soon as it is measured; what doesn't fit into
the time or the memory is left out by name. docs/gpu.md is made of the files.
"""

from __future__ import annotations

import abc
import argparse
import functools
import gc
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

import torch

from specvlm.answering.options import Options
from specvlm.bench import exactness, roofline
from specvlm.bench.exactness import descriptions
from specvlm.bench.performance import summary
from specvlm.bench.pocket_pairs import put
from specvlm.bench.roofline import Machine
from specvlm.bench.showing import gpu_page
from specvlm.bench.showing.report import Document, Grid, keep
from specvlm.bench.suite import Setup, measure
from specvlm.bench.widened import subjects
from specvlm.bench.widened.shapes import PAIRS
from specvlm.bench.widened.subjects import Subject
from specvlm.comparing.arms import WAYS
from specvlm.comparing.telling import told
from specvlm.errors import OptionError
from specvlm.families.loading import device_of
from specvlm.machine import machine, versions

log = logging.getLogger("specvlm.bench.gpu")

PAGE, FOLDER = Path("docs/gpu.md"), Path("docs/bench/gpu")
OUTCOME, EXACTNESS = "outcome", "exactness-"
"""A file that tells what became of all, and what the names of some others begin with."""

NOISE = (
    "The noise floor is stock generate as a GPU runs it otherwise: ar-no-cudnn without cuDNN's attention, ar-static "
    "compiled, with a cache of fixed size."
)

SECONDS = 470.0
"""Until then new work is begun: with the last piece of it, under nine minutes."""

BESIDE_WEIGHTS = 6e9
"""Bytes for caches, activations and CUDA itself."""

OURS = ("loop", "specvlm", "auto", "sd")
ALL = ("loop", "specvlm", "ar-static", "auto", "sd", "prompt_lookup", "assisted")
"""In the order of what they tell. `ar` runs first of all, and `ar-no-cudnn` where it is another."""

COMPILED = tuple(name for name, way in WAYS.items() if way.compiles)
EAGER = tuple(sorted(WAYS.keys() - COMPILED, key=lambda name: (WAYS[name].answer is not None, name)))
"""Our own ways first: should time run out, it was for them."""
ROWS = (1, 4, 8, 16, 26, 64)

HasTime = Callable[[], bool]
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Item(abc.ABC):
    """One thing to measure, of a pair of `specvlm.bench.widened.subjects`."""

    pair: str
    dtype: str = "bfloat16"
    compile: str = "auto"
    """As `specvlm.load` has it."""
    least_seconds: float
    """With less than that left it isn't begun: to build the pair and run stock generate takes as long."""
    most_seconds: float
    """After so many no further arm or question of it is begun."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """Of its file, and of whatever is told of it."""

    @abc.abstractmethod
    def measure(self, subject: Subject, on: Machine, has_time: HasTime, say: Say) -> Document: ...

    @property
    def kind(self) -> tuple[str, str, str]:
        """Items of one kind are measured on one pair."""
        return (self.pair, self.dtype, self.compile)

    @property
    def torch_dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype)

    @property
    def num_bytes(self) -> float:
        """That it needs on the device."""
        if self.pair not in PAIRS:
            return BESIDE_WEIGHTS
        target, draft, _ = PAIRS[self.pair]
        return BESIDE_WEIGHTS + self.torch_dtype.itemsize * (target.num_parameters + draft.num_parameters)


@final
@dataclass(frozen=True, kw_only=True)
class Speeds(Item):
    """Arms side by side about one prompt, as `specvlm bench` has it."""

    arms: tuple[str, ...] = ALL
    video_tokens: int | None = None
    """None: as many as 32 frames have."""
    new_tokens: int = 128
    repeats: int = 2
    rows: tuple[int, ...] = ROWS
    which: str = ""
    """What sets it apart from another one of this pair."""

    @property
    def name(self) -> str:
        parts = (self.pair, self.dtype, self.video_tokens and str(self.video_tokens), self.which)
        return "-".join(part for part in parts if part)

    @property
    def setup(self) -> Setup:
        return Setup(
            pair=self.pair,
            dtype=self.dtype,
            compile=self.compile,
            video_tokens=() if self.video_tokens is None else (self.video_tokens,),
            new_tokens=(self.new_tokens,),
            arms=self.arms,
            repeats=self.repeats,
            rows=self.rows,
        )

    def measure(self, subject: Subject, on: Machine, has_time: HasTime, say: Say) -> Document:
        return measure(subject, self.setup, on, say, has_time)


@final
@dataclass(frozen=True, kw_only=True)
class Exact(Item):
    """Every token of several answers judged by the target. The noise floor is stock generate as the GPU runs it
    otherwise: without cuDNN's attention, and compiled for a static cache."""

    arms: tuple[str, ...] = ("ar-no-cudnn", "ar-static", "loop", "sd", "specvlm", "strict")
    prompts: int = 4
    frames: int = 16
    tokens: int = 192

    @property
    def name(self) -> str:
        return f"{EXACTNESS}{self.pair}-{self.dtype}"

    def measure(self, subject: Subject, on: Machine, has_time: HasTime, say: Say) -> Document:
        say(f"{self.prompts} prompts, {', '.join(self.arms)}")
        options = Options(do_sample=False, max_new_tokens=self.tokens)
        asked = descriptions(self.prompts, self.frames)
        found = exactness.measure(subject.vlm, asked, self.arms, options, floor={}, has_time=has_time)
        return replace(found, pair=self.pair).summary()


def _pocket(pair: str, which: str, arms: tuple[str, ...], least: float, most: float) -> Speeds:
    """Whether answers are stock generate's where they have to be: a turn in float32."""
    once = Speeds(pair=pair, dtype="float32", arms=arms, which=which, least_seconds=least, most_seconds=most)
    return replace(once, new_tokens=96, repeats=1, rows=(1,))


LONG: dict[str, Any] = {"new_tokens": 64, "repeats": 1, "least_seconds": 40.0, "most_seconds": 80.0}
"""Of long films a run takes seconds before its first token."""

ITEMS: tuple[Item, ...] = (
    _pocket("pocket-llava_onevision", "identity", EAGER, 15.0, 50.0),
    _pocket("pocket-qwen2_5_vl", "identity", EAGER, 15.0, 50.0),
    Speeds(pair="llava-onevision-7b+0.5b", video_tokens=3000, least_seconds=50.0, most_seconds=110.0),
    Speeds(pair="llava-onevision-7b+0.5b", video_tokens=12_500, **LONG),
    Exact(pair="pocket-llava_onevision", least_seconds=20.0, most_seconds=40.0),
    Speeds(pair="qwen2.5-vl-7b+3b", video_tokens=3000, least_seconds=50.0, most_seconds=90.0),
    Speeds(pair="qwen2.5-vl-7b+3b", video_tokens=12_500, **LONG),
    Speeds(
        pair="llava-onevision-7b+0.5b",
        video_tokens=3000,
        arms=("specvlm",),
        compile="inductor",
        which="inductor",
        least_seconds=90.0,
        most_seconds=90.0,
    ),
    Speeds(
        pair="qwen2.5-vl-32b+3b", video_tokens=3000, arms=OURS, new_tokens=64, least_seconds=70.0, most_seconds=90.0
    ),
    Speeds(pair="qwen2.5-14b+3b", video_tokens=3000, arms=OURS, new_tokens=64, least_seconds=50.0, most_seconds=60.0),
    Exact(pair="pocket-qwen2_5_vl", least_seconds=20.0, most_seconds=40.0),
    _pocket("pocket-llava_onevision", "static", COMPILED, 60.0, 60.0),
    _pocket("pocket-qwen2_5_vl", "static", COMPILED, 60.0, 60.0),
)
"""In the order of what they tell."""


@final
@dataclass(frozen=True)
class Budget:
    """Seconds for all, from when it was made."""

    seconds: float
    clock: Callable[[], float] = time.monotonic
    start: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", self.clock())

    @property
    def left(self) -> float:
        return self.start + self.seconds - self.clock()

    def of(self, item: Item) -> HasTime:
        """Whether there is time for more of an item that begins now."""
        begun = self.clock()
        return lambda: self.left > 0 and self.clock() - begun < item.most_seconds


@dataclass
class Outcome:
    """What became of each item, by its name."""

    seconds: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    different: dict[str, list[str]] = field(default_factory=dict)
    """Arms whose answer wasn't stock generate's where it must be: in float32."""

    @property
    def is_well(self) -> bool:
        return not self.failed and not self.different

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "machine": machine(), "versions": versions()}


Roofs = Callable[[torch.dtype], Machine]
Build = Callable[[Item], Subject]


def run(
    items: Sequence[Item],
    folder: Path,
    budget: Budget,
    *,
    build: Build,
    roofs: Roofs,
    memory: float | None = None,
    say: Say = lambda what: None,
) -> Outcome:
    """Measure one item after another, and write each, and what became of all, as soon as it is known.

    A pair is built when the first of its items begins, and kept for those that follow. `memory` is what the device has,
    if that is to be looked at. Whatever goes wrong with an item is told and recorded; the others are measured.
    """
    outcome, subject, kind = Outcome(), None, None
    for item in items:
        if reason := _why_not(item, budget.left, memory):
            outcome.left_out[item.name] = reason
            say(f"{item.name} is left out: {reason}")
        else:
            begun, has_time = budget.clock(), budget.of(item)
            try:
                if subject is None or kind != item.kind:
                    subject = None
                    forget()
                    say(f"Building {item.pair} in {item.dtype}, compile={item.compile}")
                    subject, kind = build(item), item.kind
                document = item.measure(subject, roofs(item.torch_dtype), has_time, say)
                keep(document, folder, item.name)
                outcome.different |= different(item, document)
            except Exception as error:  # noqa: BLE001  # minutes of a lent GPU shall not be lost to it
                outcome.failed[item.name] = told(error)
                say(f"{item.name} failed: {told(error)}")
                subject = None
            outcome.seconds[item.name] = budget.clock() - begun
        keep(outcome.to_json(), folder, OUTCOME)
    return outcome


def _why_not(item: Item, seconds_left: float, memory: float | None) -> str:
    if memory is not None and item.num_bytes > memory:
        return f"it needs {item.num_bytes / 1e9:.0f} GB, and the device has {memory / 1e9:.0f}"
    if seconds_left < item.least_seconds:
        return f"it takes {item.least_seconds:.0f} s at the least, and {max(0.0, seconds_left):.0f} were left"
    return ""


def different(item: Item, document: Document) -> Mapping[str, list[str]]:
    """The arms of a document in float32 that gave another answer, if there are any."""
    arms = [arm["arm"] for arm in document["arms"] if arm.get("identical") is False]
    return {item.name: arms} if arms and item.dtype == "float32" else {}


def forget() -> None:
    """Give back the memory of a pair that nobody holds any more, and of what was compiled for it."""
    torch._dynamo.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def chosen(names: Sequence[str]) -> tuple[Item, ...]:
    """The items whose name has one of `names` in it; all, if there are none. Errors: OptionError."""
    found = tuple(item for item in ITEMS if not names or any(name in item.name for name in names))
    if not found:
        raise OptionError(f"nothing is called {' or '.join(names)}; there are {', '.join(item.name for item in ITEMS)}")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns 1 if anything failed, or an answer in float32 wasn't stock generate's."""
    parser = argparse.ArgumentParser(
        prog="python -m specvlm.bench.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"nothing new begins then (default {SECONDS:g})")
    parser.add_argument("--device-map", default="cuda", help="where the models go (default cuda)")
    parser.add_argument("--only", nargs="+", default=[], help="items whose name has one of these in it")
    parser.add_argument("--out", type=Path, default=FOLDER, help=f"where the files go (default {FOLDER})")
    parser.add_argument("--page", type=Path, default=PAGE, help=f"where their tables go (default {PAGE})")
    parser.add_argument("--page-only", action="store_true", help="measure nothing: put in what is there")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(relativeCreated)8.0f ms  %(message)s", stream=sys.stderr)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    outcome = Outcome()
    if not given.page_only:
        try:
            outcome = _measure(given)
        except OptionError as error:
            parser.error(str(error))
    for name, text in parts(given.out).items():
        put(given.page, name, text)
    return 0 if outcome.is_well else 1


def _measure(given: argparse.Namespace) -> Outcome:
    items, device = chosen(given.only), device_of(given.device_map)
    memory = float(torch.cuda.get_device_properties(device).total_memory) if device.type == "cuda" else None
    return run(
        items,
        given.out,
        Budget(given.seconds),
        build=lambda item: subjects.build(item.pair, item.torch_dtype, given.device_map, item.compile),
        roofs=functools.cache(lambda dtype: roofline.measure(dtype=dtype, device=device)),
        memory=memory,
        say=log.info,
    )


def parts(folder: Path) -> dict[str, str]:
    """What docs/gpu.md has between its comments, of what is in the folder."""
    return gpu_page.parts(folder, {EXACTNESS: exactness_grid}, OUTCOME, summary)


def exactness_grid(record: Document) -> Grid:
    """With a noise floor of its own."""
    return replace(exactness.grid_of(record), notes=(exactness.JUDGED, NOISE))


if __name__ == "__main__":
    sys.exit(main())
