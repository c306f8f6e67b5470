"""What the bench found, as grids of text: for a terminal, a page in Markdown, a page in HTML.

A section makes grids of the JSON document, or none where the document has nothing for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from specvlm.bench.growth import ROWS
from specvlm.bench.steps import OURS, STOCK
from specvlm.comparing.arms import find
from specvlm.engine.stats import PHASES
from specvlm.evals.writing import write_whole

Document = Mapping[str, Any]

ACCEPTANCE = (
    "Acceptance: mean acceptance length, the tokens emitted per target forward after the prefill, the target's own "
    "bonus token included (plain decoding = 1.00). The first forward of `assisted` and `prompt_lookup` checks guesses "
    "too; they count, and its time is in the time to first token."
)
SAME = "Same: all answers are stock generate's, or the first token that isn't. Kept: video tokens that the draft sees."
TIMES = (
    "Decode: from when the first token is known and the draft has read its prompt to the last token. End to end: from "
    "the closed video file to the last token. Times and speeds are medians, with (least, most)."
)
STOCK_PHASES = (
    "Stock generate can't be timed from inside: its vision is part of `prefill target`, all guesses of `verify`."
)
LIMITS = (
    "Bounds: the least seconds that a phase's bytes and operations take on this machine, were it alone with them. "
    "Limits: the speedup if drafting were free and a verify forward cost no more than a forward over one row, at the "
    "acceptance that the arm reached; the percentage is what was reached of it. Stock limit: a forward of stock "
    "generate, so the limit is the acceptance itself. Loop limit: one of our own loop, as measured in the arm `loop`. "
    "Memory limit: one pass over weights and cache at the measured bandwidth."
)


COMPILED = (
    "Compiled: by how much the first answer to the question took longer than later ones, because something was "
    "compiled for it; no other figure has a part of that."
)


MOST_ARMS = 2
"""Beside stock generate, of a table with a column an arm on a telephone: the last of them, which plan and prune."""
LIMITS_IN_SHORT = (0, 5, 7, 8)
"""The columns of `limits` for a telephone."""


@dataclass(frozen=True)
class Grid:
    """A table. The first column is text, the others are figures."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    narrow: tuple[int, ...] | None = None
    """The columns that a telephone has room for; None: all."""


def introduction(document: Document) -> list[str]:
    """What was measured, on what, and what it is not."""
    bench, machine, versions = document["bench"], document["machine"], document["versions"]
    reads, flops = machine["bytes_per_second"] / 1e9, machine["operations_per_second"] / 1e9
    host = f"{machine['cpu']}, {machine['threads']} of {machine['cores']} cores"
    lines = [
        f"{bench['pair']} in {bench['dtype']}, {bench['date']}, {bench['repeats']} runs of each arm in turn.",
        bench["about"],
        f"{_gpu(document) or host}: reads {reads:.1f} GB/s, multiplies {flops:.0f} GFLOPS. "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + ".",
    ]
    if bench.get("compile", "none") != "none":
        lines.append(f"specvlm's rounds are played on the device, compile={bench['compile']!r}.")
    if bench["exact_length"]:
        lines.append(
            "The end of an answer was taken from the models, in every arm alike: what stands behind it was never "
            "learnt, and how often it is guessed means nothing."
        )
    if bench.get("share_reading"):
        lines.append(
            "In each turn the target read the video once for all arms that go through specvlm's loop, and the time it "
            "took is counted to each of them; stock generate always read it itself."
        )
    lines += [
        f"{cell['video_tokens']} video tokens: {arm} was left out: {reason}"
        for cell in document["cells"]
        for arm, reason in cell["refused"].items()
    ]
    lines += [
        f"{cell['video_tokens']} video tokens: no time was left for {', '.join(cell['left_out'])}"
        for cell in document["cells"]
        if cell.get("left_out")
    ]
    lines += [
        f"{cell['video_tokens']} video tokens: the {_words(name)} is against {arm}, the fastest plain stock generate."
        for cell in document["cells"]
        for name, arm in cell.get("baselines", {}).items()
        if arm != "ar"
    ]
    return lines


def processor_of(document: Document) -> str:
    """What the models ran on, by its name."""
    return document["bench"].get("processor") or document["machine"]["cpu"]


def _gpu(document: Document) -> str:
    """The GPU that the models ran on and what stands in front of it; empty if it was none."""
    machine, name = document["machine"], processor_of(document)
    if name == machine["cpu"]:
        return ""
    sizes = [f"{gpu['memory_bytes'] / 2**30:.0f} GiB" for gpu in machine["gpus"] if gpu["name"] in name]
    drivers = [f"{_words(part)} {version}" for part, version in machine["cuda"].items() if version]
    return f"{name} ({', '.join([*sizes[:1], *drivers])}), {machine['cores']} cores of {machine['cpu']} beside it"


def speeds(document: Document) -> Iterator[Grid]:
    head = (
        "arm",
        "tokens",
        "same",
        "acceptance",
        "kept",
        "tokens/s",
        "first token, s",
        "decode",
        "end to end",
        "memory, GB",
    )
    for cell, arms in _cells(document):
        compiled = any(arm.get("compile_seconds") is not None for arm in arms)
        rows = tuple(
            (
                arm["arm"],
                str(arm["tokens"]),
                "yes" if arm["identical"] else f"no, {arm['first_divergence']}",
                f"{arm['mean_acceptance_length']:.2f}",
                str(arm["num_kept"]),
                _spread(arm, "tokens_per_second"),
                _spread(arm, "ttft_seconds"),
                f"{arm['decode_speedup']:.2f} x",
                f"{arm['end_to_end_speedup']:.2f} x",
                f"{arm['peak_memory_bytes'] / 1e9:.2f}",
                *((_seconds(arm.get("compile_seconds")),) if compiled else ()),
            )
            for arm in arms
        )
        ways = tuple(f"{arm['arm']}: {find(arm['arm']).summary}" for arm in arms)
        more = ("compiled, s",) if compiled else ()
        notes = (*ways, SAME, ACCEPTANCE, TIMES, *((COMPILED,) if compiled else ()))
        yield Grid(
            _title("Speed", cell, arms), head + more, rows, notes, _columns(head, "arm", "same", "decode", "end to end")
        )


def phases(document: Document) -> Iterator[Grid]:
    for cell, arms in _cells(document):
        names = [name for name in PHASES if any(arm["phases"].get(name, 0.0) > 0 for arm in arms)]
        rows = [(_words(name), *(_seconds(arm["phases"].get(name)) for arm in arms)) for name in names]
        rows.append(("total", *(_seconds(arm["total_seconds"]) for arm in arms)))
        head = ("seconds", *(arm["arm"] for arm in arms))
        narrow = _columns(head, "seconds", "ar", *[arm["arm"] for arm in arms if arm["arm"] != "ar"][-MOST_ARMS:])
        yield Grid(_title("Where the time goes", cell, arms), head, tuple(rows), (STOCK_PHASES,), narrow)


def limits(document: Document) -> Iterator[Grid]:
    head = (
        "arm",
        "prefill target",
        "prefill draft",
        "draft",
        "verify",
        "stock limit",
        "reached",
        "loop limit",
        "reached",
        "memory limit",
        "reached",
    )
    for cell, arms in _cells(document):
        rows = []
        for arm in arms:
            roof = arm["roofline"]
            bounds = (roof["times_bound"].get(name) for name in ("prefill_target", "prefill_draft", "draft", "verify"))
            acceptance = arm["mean_acceptance_length"]
            by_stock = {"speedup": acceptance, "percent": 100 * arm["decode_speedup"] / acceptance}
            reached = [
                text
                for limit in (by_stock, roof["loop_limit"], roof["memory_limit"])
                for text in ((f"{limit['speedup']:.2f} x", f"{limit['percent']:.0f} %") if limit else ("", ""))
            ]
            rows.append((arm["arm"], *("" if times is None else f"{times:.2f} x" for times in bounds), *reached))
        title = _title("Seconds as multiples of their bounds, and limits of the decode speedup", cell, arms)
        yield Grid(title, head, tuple(rows), (LIMITS, STOCK_PHASES), LIMITS_IN_SHORT)


def steps(document: Document) -> Iterator[Grid]:
    found = document["costs"]["steps"]
    stock = {step["cached"]: step["seconds"] for step in found if step["loop"] == STOCK}
    ours = {(step["rows"], step["cached"]): step["seconds"] for step in found if step["loop"] == OURS}
    if not ours:
        return
    head = ["rows"]
    for cached in stock:
        head += [f"ms behind {cached}", "of stock's one row"]
    rows = []
    for count in dict.fromkeys(count for count, _ in ours):
        row = [str(count)]
        for cached, one in stock.items():
            row += [f"{1e3 * ours[count, cached]:.1f}", f"{ours[count, cached] / one:.2f} x"]
        rows.append(tuple(row))
    note = (
        "One forward of the target over so many rows of a tree, logits for all of them, behind so many cached tokens; "
        "stock transformers over one row: " + ", ".join(f"{1e3 * s:.1f} ms behind {c}" for c, s in stock.items()) + "."
    )
    yield Grid("A target forward, by its rows", tuple(head), tuple(rows), (note,))


def growth(document: Document) -> Iterator[Grid]:
    found = document["costs"]["growth"]
    rows = tuple(
        (
            each["what"],
            f"1,000 {each['over']}" if each["over"] != ROWS else "1 row",
            _seconds((1 if each["over"] == ROWS else 1000) * each["slope"]),
            " ".join(f"{x:g}: {_seconds(y)}" for x, y in each["points"]),
        )
        for each in found
    )
    if rows:
        note = "Slopes of straight lines by least squares; the points are what was measured, in seconds."
        yield Grid("How cost grows", ("seconds of", "with each", "more by", "points"), rows, (note,), (0, 1, 2))


Section = Callable[[Document], Iterator[Grid]]

SECTIONS: tuple[Section, ...] = (speeds, phases, limits, steps, growth)
"""In this order everywhere."""


def stem(document: Document) -> str:
    """What a document's files are called, but for their endings."""
    return _stem(document["bench"]["pair"], document["bench"]["dtype"])


def files_of(pair: str, dtype: torch.dtype) -> tuple[str, ...]:
    """The names of a document's files, before there is a document."""
    name = _stem(pair, str(dtype).removeprefix("torch."))
    return f"{name}.json", f"{name}.png", f"{name}-dark.png"


def _stem(pair: str, dtype: str) -> str:
    return f"{pair}-{dtype}"


def keep(document: Document, folder: Path, name: str) -> None:
    """Write it into the folder, as `name`.json, for docs/performance.md to be made of."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document, indent=1, allow_nan=False)
    write_whole(folder / f"{name}.json", text + "\n")


def kept(folder: Path, name: str) -> Document | None:
    """What `keep` wrote there, if it can be read."""
    try:
        found = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def grids(document: Document, sections: Sequence[Section] = SECTIONS) -> list[Grid]:
    return [grid for section in sections for grid in section(document)]


def _cells(document: Document) -> Iterator[tuple[Mapping[str, Any], list[Mapping[str, Any]]]]:
    for cell in document["cells"]:
        yield cell, [arm for arm in document["arms"] if same_cell(arm, cell)]


def same_cell(arm: Mapping[str, Any], cell: Mapping[str, Any]) -> bool:
    """Whether an arm was measured in this cell."""
    return all(arm[name] == cell[name] for name in ("video_tokens", "new_tokens"))


def _columns(head: Sequence[str], *names: str) -> tuple[int, ...]:
    return tuple(head.index(name) for name in names)


def _title(what: str, cell: Mapping[str, Any], arms: Sequence[Mapping[str, Any]]) -> str:
    seen = arms[0]["num_video_tokens"]
    return f"{what}: {seen} video tokens ({cell['num_frames']} frames), answers of up to {cell['new_tokens']} tokens"


def _spread(arm: Mapping[str, Any], name: str) -> str:
    least, most = arm["spread"].get(name, (None, None))
    return _seconds(arm[name]) + ("" if least is None else f" ({_seconds(least)}, {_seconds(most)})")


def _seconds(value: float | None) -> str:
    """Three figures or so."""
    if value is None:
        return ""
    decimals = 1 if value >= 10 else 2 if value >= 1 else 3 if value >= 0.01 else 5
    return f"{value:.{decimals}f}"


def _words(name: str) -> str:
    return name.replace("_", " ")
