"""The same question answered several ways in one run, and the one record that every measurement is written in."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import specvlm
from specvlm.engine.stats import reset_peak_memory
from specvlm.errors import OptionError
from specvlm.options import Options

if TYPE_CHECKING:
    from specvlm.pipeline import Generation, SpecVLM

ARMS = ("ar", "loop", "sd", "specvlm")
"""ar: stock generate. loop: our loop without a draft. sd: the draft sees the whole video. specvlm: a pruned one."""

TIMES = ("tokens_per_second", "ttft_seconds", "decode_seconds", "total_seconds")
PACKAGES = ("torch", "transformers", "av")


@dataclass(frozen=True)
class Arm:
    """One way of answering, measured. `identical` and both speedups are against the arm `ar` of the same run, and None
    where there was no such arm.

    `mean_acceptance_length` counts emitted tokens per target forward after the prefill, bonus included (plain decoding
    is 1.00). `decode_seconds` starts when the first token is known and the drafter has been prefilled; `total_seconds`
    starts with the closed video file. Figures with a `spread` (least, most) are medians.
    """

    arm: str
    tokens: int
    identical: bool | None
    first_divergence: int | None
    mean_acceptance_length: float
    acceptance_rate: float | None
    tokens_per_second: float
    ttft_seconds: float
    decode_seconds: float
    total_seconds: float
    decode_speedup: float | None
    end_to_end_speedup: float | None
    num_video_tokens: int
    num_kept: int
    peak_memory_bytes: int
    phases: dict[str, float]
    spread: dict[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """What `compare` found: a record for each arm, and the answer that each gave."""

    arms: tuple[Arm, ...]
    generations: dict[str, Generation]
    options: Options

    def to_json(self) -> dict[str, Any]:
        """The record that every command speaks, ready for `json.dumps`."""
        return document(self.arms, self.options)


def compare(
    vlm: SpecVLM,
    video: Any,
    question: str,
    options: Options | None = None,
    *,
    arms: Sequence[str] = ("ar", "sd", "specvlm"),
    repeats: int = 1,
    on_run: Callable[[str], None] = lambda arm: None,
) -> Comparison:
    """Answer the same question in every arm, `repeats` times each in turn, after a short warm-up of each.

    `ar` always runs, being what the others are measured against. `on_run` is told the arm before each run.
    Errors: OptionError for an unknown arm, or an arm that needs a draft when there is none.
    """
    options = options or Options()
    if options.seed is None:
        options = replace(options, seed=0)  # should they sample, all have to throw the same dice
    arms = tuple(dict.fromkeys(("ar", *arms)))
    for arm in arms:
        if arm not in ARMS:
            raise OptionError(f"there is no arm {arm!r}; there are {', '.join(ARMS)}")
        if arm in ("sd", "specvlm") and vlm.draft is None:
            raise OptionError(f"arm {arm!r} needs a draft model, and none was loaded")
    if repeats < 1:
        raise OptionError(f"repeats must be 1 or more, not {repeats}")
    for arm in arms:
        _run(vlm, arm, video, question, replace(options, max_new_tokens=min(8, options.max_new_tokens)))
    runs: dict[str, list[Generation]] = {arm: [] for arm in arms}
    for _ in range(repeats):
        for arm in arms:
            on_run(arm)
            reset_peak_memory()
            runs[arm].append(_run(vlm, arm, video, question, options))
    records = tuple(record(arm, runs[arm], runs["ar"]) for arm in arms)
    return Comparison(records, {arm: runs[arm][0] for arm in arms}, options)


def _run(vlm: SpecVLM, arm: str, video: Any, question: str, options: Options) -> Generation:
    if arm == "ar":
        return vlm.autoregressive(video, question, options)
    if arm == "loop":
        return vlm.without_draft().generate(video, question, options)
    return vlm.generate(video, question, replace(options, pruning_ratio=0.0) if arm == "sd" else options)


def record(arm: str, runs: Sequence[Generation], oracle: Sequence[Generation] = ()) -> Arm:
    """The record of an arm that was run once or more, measured against the `oracle`'s runs if there are any."""
    first = runs[0]
    divergences = []
    if oracle:
        right = oracle[0].token_ids
        divergences = [d for run in runs if (d := first_divergence(run.token_ids, right)) is not None]
    times = {name: [getattr(run.stats, name) for run in runs] for name in TIMES}
    medians = {name: statistics.median(values) for name, values in times.items()}

    def speedup(name: str) -> float | None:
        if not oracle:
            return None
        mine, theirs = medians[name], statistics.median(getattr(run.stats, name) for run in oracle)
        return theirs / mine if mine > 0 else 1.0

    return Arm(
        arm=arm,
        tokens=len(first.token_ids),
        identical=not divergences if oracle else None,
        first_divergence=min(divergences, default=None),
        mean_acceptance_length=first.stats.mean_acceptance_length,
        acceptance_rate=first.stats.acceptance_rate,
        **medians,
        decode_speedup=speedup("decode_seconds"),
        end_to_end_speedup=speedup("total_seconds"),
        num_video_tokens=first.stats.num_video_tokens,
        num_kept=first.stats.num_kept,
        peak_memory_bytes=max(run.stats.peak_memory_bytes for run in runs),
        phases={
            name: statistics.median(run.stats.phases.get(name, 0.0) for run in runs) for name in first.stats.phases
        },
        spread={name: (min(values), max(values)) for name, values in times.items()} if len(runs) > 1 else {},
    )


def document(arms: Iterable[Arm], options: Options) -> dict[str, Any]:
    """Measured arms with all that one must know to measure them again, ready for `json.dumps`."""
    return {
        "arms": [asdict(arm) for arm in arms],
        "machine": machine(),
        "versions": versions(),
        "options": {f.name: _plain(getattr(options, f.name)) for f in fields(options)},
    }


def first_divergence(tokens: Sequence[int], right: Sequence[int]) -> int | None:
    """The first position at which two answers differ (an early end differs too), or None if they are the same."""
    for position, (mine, theirs) in enumerate(zip(tokens, right, strict=False)):
        if mine != theirs:
            return position
    return None if len(tokens) == len(right) else min(len(tokens), len(right))


def machine() -> dict[str, Any]:
    """What a figure was measured on."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
    }


def versions() -> dict[str, str]:
    ours = {"python": platform.python_version(), "specvlm": specvlm.__version__}
    return ours | {name: importlib.metadata.version(name) for name in PACKAGES}


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _plain(value: Any) -> Any:
    """An option as JSON has it; a pruner or tree object by its text form."""
    if is_dataclass(value):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
