"""How far a measured arm is from what can't be beaten: the roofline of each phase, and limits of speculation.

A limit is the speedup if the draft were free and a verify forward cost no more than a forward over one row: one of
stock generate, and the limit is the mean acceptance length itself, or one of these two.

The memory limit: one pass over weights and cache at the bandwidth that was measured. No decoding by the same guesses is
faster on this machine.

The loop's limit: what a forward over one row really took, in the arm `loop` of the same run. What the kernels lose is
not speculation's to win back; this is the limit of guessing alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from specvlm.answering.answer import Generation
from specvlm.bench.roofline import Answer, Demand, Machine, bounds, limit_seconds, phases
from specvlm.comparing.record import Arm
from specvlm.engine.stats import Stats


@dataclass(frozen=True)
class Limit:
    """The least time of decoding, the speedup over plain decoding (as measured) that it would be, and the percentage
    of it that was reached."""

    seconds: float
    speedup: float
    percent: float


@dataclass(frozen=True)
class Standing:
    """One arm against its bounds: seconds of each phase at the roofline, what was measured as a multiple of it, and the
    limits of speculation at the acceptance that the arm reached. Without an arm `loop` there is no limit by it."""

    bound_seconds: dict[str, float]
    times_bound: dict[str, float]
    memory_limit: Limit
    loop_limit: Limit | None


def standing(
    arm: Arm,
    runs: Sequence[Generation],
    plain: Arm,
    loop: Arm | None,
    demands: tuple[Demand, Demand | None],
    on: Machine,
) -> Standing:
    """`plain` is stock generate of the same run, `loop` the arm of that name; `demands` of the target and the draft."""
    stats, (target, draft) = typical(runs), demands
    work = phases(target, draft if stats.num_draft_forwards else None, counts(stats))
    least = {name: seconds for name, seconds in bounds(on, work).items() if seconds > 0 and name in arm.phases}

    def limit(seconds: float) -> Limit:
        if not seconds or not arm.decode_seconds:  # nothing was decoded
            return Limit(0.0, 1.0, 100.0)
        return Limit(seconds, plain.decode_seconds / seconds, 100 * seconds / arm.decode_seconds)

    # Counts, not the ratio: an answer of one token was never decoded.
    acceptance = stats.mean_acceptance_length
    by_memory = limit_seconds(target, on, stats.num_prompt_tokens, stats.num_tokens, acceptance)
    by_loop = None
    if loop is not None and loop.tokens > 1:
        by_loop = limit(stats.num_rounds * loop.decode_seconds / (loop.tokens - 1))
    return Standing(
        bound_seconds=least,
        times_bound={name: arm.phases[name] / seconds for name, seconds in least.items()},
        memory_limit=limit(by_memory if stats.num_rounds else 0.0),
        loop_limit=by_loop,
    )


def typical(runs: Sequence[Generation]) -> Stats:
    """Those of the run in the middle: a plan's counts differ from run to run."""
    return sorted(runs, key=lambda run: run.stats.decode_seconds)[(len(runs) - 1) // 2].stats


def counts(stats: Stats) -> Answer:
    """What the roofline has to know of an answer. Of stock generate's help nothing is known, and nothing is counted."""
    return Answer(
        num_prompt_tokens=stats.num_prompt_tokens,
        num_draft_prompt_tokens=stats.num_prompt_tokens - stats.num_video_tokens + stats.num_kept,
        num_tokens=stats.num_tokens,
        num_rounds=stats.num_rounds,
        num_draft_forwards=stats.num_draft_forwards,
        num_nodes=1 + stats.num_drafted / stats.num_rounds if stats.num_rounds else 1,
    )
