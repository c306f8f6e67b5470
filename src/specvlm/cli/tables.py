"""Figures as tables. Every definition that a reader needs stands below the table that needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE
from rich.console import Group, RenderableType
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from specvlm.bench.showing.report import Grid, grids, introduction
from specvlm.cli.columns import fitted
from specvlm.comparing.arms import find
from specvlm.comparing.record import Arm
from specvlm.comparing.words import words
from specvlm.engine.stats import Stats
from specvlm.evals.reporting.figures import DEFINITIONS, figures

SAME = "Same answer: token for token stock generate's, or else the first token that isn't."
SPEEDS = (
    "Decoding and end to end: how many times as fast as stock generate. End to end starts with the closed video file, "
    "decoding with the first token known and the draft prefilled."
)
FORWARDS = (
    "Tokens a forward: emitted per target forward after the prefill, the target's own bonus token included (plain "
    "decoding = 1.00)."
)
KEPT = "Kept for the draft: the video tokens that it sees. The target sees them all."
ACCEPTANCE = (
    "Mean acceptance length: tokens emitted per target forward after the prefill, the target's own bonus token "
    "included (plain decoding = 1.00)."
)
DEPTHS = "Accepted at depth d: the share of rounds in which d guesses or more were accepted."


def of_arms(arms: Sequence[Arm], baselines: Mapping[str, str] | None = None, *, width: int) -> Group:
    """A row for each arm, the fastest of them bold, and what the columns mean. `baselines`: `Comparison`'s."""
    columns: dict[str, Callable[[Arm], str]] = {
        "": named,
        "same answer": lambda arm: "yes" if arm.identical else f"no, from {arm.first_divergence}",
        "decoding": lambda arm: f"{arm.decode_speedup:.2f} x",
        "end to end": lambda arm: f"{arm.end_to_end_speedup:.2f} x",
        "tokens/s": lambda arm: f"{arm.tokens_per_second:.1f}",
        "first token": lambda arm: f"{arm.ttft_seconds:.3f} s",
        "tokens": lambda arm: str(arm.tokens),
        "tokens a forward": lambda arm: f"{arm.mean_acceptance_length:.2f}",
        "kept for the draft": lambda arm: f"{arm.num_kept} of {arm.num_video_tokens}",
        "peak memory": lambda arm: decimal(arm.peak_memory_bytes),
    }
    if any(arm.compile_seconds is not None for arm in arms):
        columns["compiled once, in"] = lambda arm: "" if arm.compile_seconds is None else f"{arm.compile_seconds:.1f} s"
    rows = [[show(arm) for show in columns.values()] for arm in arms]
    best = max(range(len(arms)), key=lambda number: arms[number].end_to_end_speedup or 0.0)
    notes = [*legend(arm.arm for arm in arms), SAME, SPEEDS, FORWARDS, KEPT]
    notes += [
        f"The {name.replace('_', ' ')} is against {words(arm)}, the fastest plain stock generate here."
        for name, arm in (baselines or {}).items()
        if arm != "ar"
    ]
    if any(arm.spread for arm in arms):
        notes.append("Times and speeds are medians; --json has their spread.")
    return below(fitted(list(columns), rows, width, bold=[best]), notes)


def of_figures(arms: Mapping[str, Mapping[str, Any]], width: int) -> Group:
    """A row for each arm of a run that has answers: `figures`, and what they mean."""
    columns = figures(arms)
    rows = [[words(arm), *values] for arm, *values in zip(arms, *columns.values(), strict=True)]
    return below(fitted(["", *columns], rows, width), [*legend(arms), *DEFINITIONS])


def of_runs(arms: Mapping[tuple[str, str, str], Mapping[str, Any]], width: int) -> Group:
    """The same of several runs. An arm's key has the name of its run, its setting (empty if there is only one) and its
    own; a run is named where it begins."""
    columns = figures({str(number): found for number, found in enumerate(arms.values())})
    rows, before = [], ""
    for (run, setting, arm), *values in zip(arms, *columns.values(), strict=True):
        rows.append(["" if run == before else run, ", ".join(filter(None, (setting, words(arm)))), *values])
        before = run
    return below(fitted(["run", "", *columns], rows, width, named=2), DEFINITIONS)


def of_bench(document: Mapping[str, Any], width: int) -> Group:
    """All that a bench found, a row for each arm. A note that several tables have stands below the last of them."""
    parts: list[RenderableType] = [*introduction(document), ""]
    found = grids(document)
    for number, grid in enumerate(found):
        head, rows = grid.head, grid.rows
        if all(words(name) != name for name in head[1:]):  # arms, each with a column
            first, *others = zip(head, *rows, strict=True)
            head, rows = ("", *first[1:]), tuple(others)
        later = {note for other in found[number + 1 :] for note in other.notes}
        notes = [_in_words(note) for note in grid.notes if note not in later]
        parts += [Text(grid.title, style="bold"), ""]
        parts += [below(fitted(head, [(_row_in_words(name), *cells) for name, *cells in rows], width), notes), ""]
    return Group(*parts)


def of_grid(grid: Grid, width: int) -> RenderableType:
    """One table, with its notes below."""
    return below(fitted(grid.head, grid.rows, width), grid.notes)


def _row_in_words(name: str) -> str:
    """What a row is of: an arm, or something of an arm, which is named behind a comma."""
    what, comma, arm = name.rpartition(", ")
    return f"{what}{comma}{words(arm)}"


def _in_words(note: str) -> str:
    """What is said of an arm, with its name in words in front."""
    name, colon, said = note.partition(": ")
    return f"{words(name)} ({name}): {said}" if colon and words(name) != name else note


def below(tables: Sequence[Table], notes: Iterable[str]) -> Group:
    """Tables with an empty line between any two, and what is to be said of them."""
    parts: list[RenderableType] = [part for table in tables for part in (table, "")]
    return Group(*parts, *notes)


def legend(arms: Iterable[str]) -> list[str]:
    """What each arm is, and its name, by which it is asked for."""
    return [f"{words(arm)} ({arm}): {find(arm).summary}" for arm in arms]


def named(arm: Arm) -> str:
    """An arm in words; if it pruned as it was told, by how much."""
    if arm.arm == "specvlm" and arm.num_kept < arm.num_video_tokens:
        return f"{words(arm.arm)}, {1 - arm.num_kept / arm.num_video_tokens:.0%} pruned".replace("%", " %")
    return words(arm.arm)


def of_stats(stats: Stats) -> Group:
    """Where the time of one answer went, and what was drafted and accepted."""
    table = Table("", show_header=False, box=SIMPLE, show_edge=False, pad_edge=False)
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
    return below([table], [ACCEPTANCE, DEPTHS])
