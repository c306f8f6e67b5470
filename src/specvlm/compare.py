"""The same question answered several ways in one run, and the one record that every measurement is written in."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any

from specvlm.answerer import Answerer
from specvlm.answering import Generation
from specvlm.arms import Way, find
from specvlm.engine.stats import reset_peak_memory
from specvlm.errors import OptionError
from specvlm.machine import machine, versions
from specvlm.options import Options
from specvlm.shared_reading import SharedReading
from specvlm.telling import told

ARMS = ("ar", "loop", "sd", "specvlm")
"""The everyday ones; `specvlm.arms` has them all."""

WARM_UP_TOKENS = 8

TIMES = ("tokens_per_second", "ttft_seconds", "decode_seconds", "total_seconds")


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
    """What `compare` found: a record for each arm, and all answers that each gave. `refused` has the arms that stock
    transformers couldn't run with these models, and its reason."""

    arms: tuple[Arm, ...]
    runs: dict[str, tuple[Generation, ...]]
    options: Options
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def generations(self) -> dict[str, Generation]:
        """The first answer of each arm."""
        return {arm: runs[0] for arm, runs in self.runs.items()}

    def to_json(self) -> dict[str, Any]:
        """The record that every command speaks, ready for `json.dumps`."""
        return document(self.arms, self.options) | {"refused": self.refused}


def compare(
    vlm: Answerer,
    video: Any,
    question: str,
    options: Options | None = None,
    *,
    arms: Sequence[str] = ("ar", "sd", "specvlm"),
    repeats: int = 1,
    warm_up: Any = None,
    share_reading: bool = False,
    on_run: Callable[[str], None] = lambda arm: None,
) -> Comparison:
    """Answer the same question in every arm, `repeats` times each in turn, after a short warm-up of each.

    The `arms` are names of `specvlm.arms`; `ar` always runs, being what the others are measured against. `warm_up` is
    another video to warm up with, where this one takes long. With `share_reading` the target reads the video once for
    all arms of a turn that go through specvlm's loop, and the time is counted to each. `on_run` is told the arm before
    each run.
    Errors: OptionError for an unknown arm, an arm that needs a draft when there is none, or a checkpoint whose
    generation config asks for what specvlm doesn't decode.
    """
    options = options or Options()
    if options.seed is None:
        options = replace(options, seed=0)  # should they sample, all have to throw the same dice
    ways = checked(arms, repeats, has_draft=vlm.draft is not None)
    if (seconds := vlm.target.model.generation_config.max_time) is not None:
        raise OptionError(
            f"the generation config has max_time={seconds}, which ends an answer by the clock: answers that differ in "
            "speed can't be compared; make it None"
        )
    brief = replace(options, max_new_tokens=min(WARM_UP_TOKENS, options.max_new_tokens))
    refused: dict[str, str] = {}

    def attempt(arm: str, source: Any, asked: Options, reading: SharedReading | None = None) -> list[Generation]:
        try:
            return [ways[arm].run(vlm, source, question, asked, reading)]
        except Exception as error:
            if not ways[arm].may_refuse:
                raise
            refused[arm] = told(error)
            return []

    for arm in ways:
        attempt(arm, video if warm_up is None else warm_up, brief)
    runs: dict[str, list[Generation]] = {arm: [] for arm in ways}
    for _ in range(repeats):
        reading = SharedReading(video, options) if share_reading else None
        for arm, answers in runs.items():
            if arm not in refused:
                on_run(arm)
                reset_peak_memory()
                answers += attempt(arm, video, options, reading)
    kept = {arm: tuple(answers) for arm, answers in runs.items() if arm not in refused}
    records = tuple(record(arm, answers, kept["ar"]) for arm, answers in kept.items())
    return Comparison(records, kept, options, refused)


def checked(arms: Iterable[str], repeats: int = 1, *, has_draft: bool = True) -> dict[str, Way]:
    """The ways to answer that are to be compared, by their names. Errors: as `compare`'s, without any model."""
    ways = {arm: find(arm) for arm in ("ar", *arms)}
    for arm, way in ways.items():
        if way.needs_draft and not has_draft:
            raise OptionError(f"arm {arm!r} needs a draft model, and there is none: name one as `draft`")
    if repeats < 1:
        raise OptionError(f"repeats must be 1 or more, not {repeats}")
    return ways


def record(arm: str, runs: Sequence[Generation], oracle: Sequence[Generation] = ()) -> Arm:
    """The record of an arm that was run once or more, measured against the `oracle`'s runs if there are any."""
    first = runs[0]
    divergences = []
    if oracle:
        right = oracle[0].token_ids
        divergences = [d for run in runs if (d := first_divergence(run.token_ids, right)) is not None]
    rates = [rate for run in runs if (rate := run.stats.acceptance_rate) is not None]
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
        mean_acceptance_length=statistics.median(run.stats.mean_acceptance_length for run in runs),
        acceptance_rate=statistics.median(rates) if rates else None,
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


def _plain(value: Any) -> Any:
    """An option as JSON has it; a pruner or tree object by its text form."""
    if is_dataclass(value):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
