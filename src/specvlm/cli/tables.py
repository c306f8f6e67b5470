"""Figures as tables. Every definition that a reader needs stands below the table that needs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rich.console import Group
from rich.filesize import decimal
from rich.table import Table

from specvlm.comparing.arms import find
from specvlm.comparing.record import Arm
from specvlm.engine.stats import Stats

ACCEPTANCE = (
    "Mean acceptance length: tokens emitted per target forward after the prefill, the target's own bonus token "
    "included (plain decoding = 1.00)."
)
DEPTHS = "Accepted at depth d: the share of rounds in which d guesses or more were accepted."
TIMES = "End-to-end starts with the closed video file, decoding with the first token known and the draft prefilled."


def of_arms(arms: Sequence[Arm], baselines: Mapping[str, str] | None = None) -> Group:
    """One column for each arm, so that it fits any terminal, and what the rows mean. `baselines`: `Comparison`'s."""
    table = Table("")
    for arm in arms:
        table.add_column(arm.arm, justify="right")
    rows: dict[str, Callable[[Arm], str]] = {
        "tokens": lambda arm: str(arm.tokens),
        "identical": lambda arm: "yes" if arm.identical else f"no, from token {arm.first_divergence}",
        "mean acceptance length": lambda arm: f"{arm.mean_acceptance_length:.2f}",
        "tokens/s, decoding": lambda arm: f"{arm.tokens_per_second:.1f}",
        "time to first token": lambda arm: f"{arm.ttft_seconds:.3f} s",
        "decode speedup": lambda arm: f"{arm.decode_speedup:.2f} x",
        "end-to-end speedup": lambda arm: f"{arm.end_to_end_speedup:.2f} x",
        "kept / video tokens": lambda arm: f"{arm.num_kept} / {arm.num_video_tokens}",
        "peak memory": lambda arm: decimal(arm.peak_memory_bytes),
    }
    if any(arm.compile_seconds is not None for arm in arms):
        rows["compiled once, in"] = lambda arm: "" if arm.compile_seconds is None else f"{arm.compile_seconds:.1f} s"
    for name, show in rows.items():
        table.add_row(name, *map(show, arms), style="bold" if "speedup" in name else None)
    notes = [*(f"{arm.arm}: {find(arm.arm).summary}" for arm in arms), ACCEPTANCE, TIMES]
    notes += [
        f"The {name.replace('_', ' ')} is against {arm}, the fastest plain stock generate here."
        for name, arm in (baselines or {}).items()
        if arm != "ar"
    ]
    if any(arm.spread for arm in arms):
        notes.append("Times and speeds are medians; --json has their spread.")
    return Group(table, *notes)


def of_stats(stats: Stats) -> Group:
    """Where the time of one answer went, and what was drafted and accepted."""
    table = Table("", show_header=False)
    table.add_column("", justify="right")
    for phase, seconds in stats.phases.items():
        table.add_row(phase.replace("_", " "), f"{seconds:.3f} s")
    table.add_row("total", f"{stats.total_seconds:.3f} s", style="bold", end_section=True)
    table.add_row("time to first token", f"{stats.ttft_seconds:.3f} s")
    table.add_row("decoding", f"{stats.decode_seconds:.3f} s")
    table.add_row("speed", f"{stats.tokens_per_second:.1f} tokens/s", end_section=True)
    table.add_row("prompt tokens", str(stats.num_prompt_tokens))
    table.add_row("video tokens, seen by the target", str(stats.num_video_tokens))
    table.add_row("video tokens, kept for the draft", str(stats.num_kept))
    table.add_row("tokens of the answer", str(stats.num_tokens))
    table.add_row("rounds (target forwards)", str(stats.num_rounds))
    table.add_row("drafted", str(stats.num_drafted))
    table.add_row("accepted", str(stats.num_accepted), end_section=True)
    table.add_row("mean acceptance length", f"{stats.mean_acceptance_length:.2f}", style="bold")
    if stats.acceptance_rate is not None:
        table.add_row("acceptance rate (accepted / drafted)", f"{stats.acceptance_rate:.1%}")
    for depth, accepted in enumerate(stats.accepted_per_depth, start=1):
        table.add_row(f"accepted at depth {depth}", f"{accepted / stats.num_rounds:.1%}")
    table.add_section()
    if stats.num_video_tokens:
        table.add_row("keys and values of the video, in the target", decimal(stats.video_bytes))
    if stats.num_rounds and stats.num_drafted:
        table.add_row("keys and values held for drafting", decimal(stats.draft_bytes))
    table.add_row("peak memory", decimal(stats.peak_memory_bytes))
    return Group(table, ACCEPTANCE, DEPTHS)
