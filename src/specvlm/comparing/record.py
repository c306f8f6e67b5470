"""The one record that every measurement is written in."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any

from specvlm.answering.answer import Generation
from specvlm.answering.options import Options
from specvlm.machine import machine, versions

TIMES = ("tokens_per_second", "ttft_seconds", "decode_seconds", "total_seconds")

SPEEDUPS = {"decode_speedup": "decode_seconds", "end_to_end_speedup": "total_seconds"}
"""Each, and the time that it compares."""


@dataclass(frozen=True)
class Arm:
    """One way of answering, measured. `identical` is against the arm `ar` of the same run, and both speedups are
    against the fastest plain stock generate of it: `ar`, but on a GPU that would use cuDNN's attention. They are None
    where there was no such arm.

    `mean_acceptance_length` counts emitted tokens per target forward after the prefill, bonus included (plain decoding
    is 1.00). `decode_seconds` starts when the first token is known and the drafter has been prefilled; `total_seconds`
    starts with the closed video file. Figures with a `spread` (least, most) are medians.

    Of an arm that was warmed up with the question itself, `warm_up_seconds` is what that first answer took in all, and
    `compile_seconds` by how much that is more than what later ones took. No other figure has a part of it.
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
    timeline: list[list[Any]] = field(default_factory=list)
    """Of the first run: name, start and end in seconds. Spans may overlap; `phases` tell what was waited for."""
    damage: list[str] = field(default_factory=list)
    """What the files of its videos lack."""
    spread: dict[str, tuple[float, float]] = field(default_factory=dict)
    warm_up_seconds: float | None = None
    compile_seconds: float | None = None


Peers = Mapping[str, Sequence[Generation]]
"""For each of SPEEDUPS, the runs that it is against."""


def fastest(plain: Mapping[str, Sequence[Generation]]) -> dict[str, str]:
    """For each of SPEEDUPS, the name of the arm that took the least of its time."""
    return {name: min(plain, key=lambda arm: _median(plain[arm], time)) for name, time in SPEEDUPS.items()}


def record(
    arm: str,
    runs: Sequence[Generation],
    oracle: Sequence[Generation] = (),
    peers: Peers | None = None,
    warm_up: Generation | None = None,
) -> Arm:
    """The record of an arm that was run once or more, measured against the `oracle`'s runs if there are any. `peers`
    are others for the speedups to be against; `warm_up` is an answer to the same question, before all `runs`."""
    first = runs[0]
    divergences = []
    if oracle:
        right = oracle[0].token_ids
        divergences = [d for run in runs if (d := first_divergence(run.token_ids, right)) is not None]
    rates = [rate for run in runs if (rate := run.stats.acceptance_rate) is not None]
    times = {name: [getattr(run.stats, name) for run in runs] for name in TIMES}
    medians = {name: statistics.median(values) for name, values in times.items()}
    warm_up_seconds = None if warm_up is None else warm_up.stats.total_seconds

    def speedup(name: str) -> float | None:
        against = oracle if peers is None else peers[name]
        if not against:
            return None
        mine, theirs = medians[SPEEDUPS[name]], _median(against, SPEEDUPS[name])
        return theirs / mine if mine > 0 else 1.0

    return Arm(
        arm=arm,
        tokens=len(first.token_ids),
        identical=not divergences if oracle else None,
        first_divergence=min(divergences, default=None),
        mean_acceptance_length=statistics.median(run.stats.mean_acceptance_length for run in runs),
        acceptance_rate=statistics.median(rates) if rates else None,
        **medians,
        decode_speedup=speedup("decode_speedup"),
        end_to_end_speedup=speedup("end_to_end_speedup"),
        num_video_tokens=first.stats.num_video_tokens,
        num_kept=first.stats.num_kept,
        peak_memory_bytes=max(run.stats.peak_memory_bytes for run in runs),
        phases={
            name: statistics.median(run.stats.phases.get(name, 0.0) for run in runs) for name in first.stats.phases
        },
        timeline=[list(span) for span in first.stats.timeline],
        damage=list(first.stats.damage),
        spread={name: (min(values), max(values)) for name, values in times.items()} if len(runs) > 1 else {},
        warm_up_seconds=warm_up_seconds,
        compile_seconds=None if warm_up_seconds is None else max(0.0, warm_up_seconds - medians["total_seconds"]),
    )


def _median(runs: Sequence[Generation], time: str) -> float:
    return statistics.median(getattr(run.stats, time) for run in runs)


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
