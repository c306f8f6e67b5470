"""The page about GPUs: what is known about them, and what was measured on one, if anything was."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from specvlm.bench.showing.renderings import markdown
from specvlm.bench.showing.report import (
    Document,
    Grid,
    grids,
    introduction,
    limits,
    phases,
    processor_of,
    speeds,
    steps,
)

NOBODY = (
    "**No GPU has seen this version.** Nothing on this page was measured on one by the code as it is now: `make "
    "bench-gpu` would measure it, in under nine minutes on one H100, and put its tables at the end. What was found by "
    "hand, once, with an earlier version, is said to be so where it stands."
)
SEEN = "The tables at the end were measured by `make bench-gpu` on {names}."
NOTHING = "Nothing, so far."

HOW_TO_READ = "How to read the tables"

Chapters = Mapping[str, Callable[[Document], Grid]]
"""What names of some files begin with, and the grid that is made of each."""


Summary = Callable[[Iterable[Document]], Grid]
"""All benches at a glance."""


def parts(folder: Path, chapters: Chapters, outcome: str, summary: Summary) -> dict[str, str]:
    """What stands in the page between its comments, by their names: by whom it was `seen`, and what was `measured`.
    `outcome` is the name of the file that tells what became of all."""
    files = {path.stem: path for path in sorted(folder.glob("*.json"))}
    told = _read(files.pop(outcome)) if outcome in files else {}
    kinds = {name: next((kind for kind in chapters if name.startswith(kind)), "") for name in files}
    benches = {name: _read(files[name]) for name, kind in kinds.items() if not kind}
    others = [chapters[kind](_read(files[name])) for name, kind in kinds.items() if kind]
    measured = [*_became(told, set(files)), *_blocks([summary(benches.values())] if benches else [])]
    measured += [part for name, document in benches.items() for part in _chapter(name, document)]
    measured += _blocks(others)
    noted = [grid for document in benches.values() for grid in _grids(document)] + others
    if notes := dict.fromkeys(f"- {note}" for grid in noted for note in grid.notes):
        measured += [f"### {HOW_TO_READ}", "\n".join(notes)]
    return {"seen": _seen(benches), "measured": "\n\n".join(measured) or NOTHING}


def _seen(benches: Mapping[str, Document]) -> str:
    """By which GPUs, if by any."""
    ran_on = {processor_of(document): document["machine"]["cpu"] for document in benches.values()}
    names = [name for name, cpu in ran_on.items() if name != cpu]
    return SEEN.format(names=", ".join(names)) if names else NOBODY


def _became(told: Document, measured: set[str]) -> Iterator[str]:
    """What was left out, failed, or was wrong."""
    lines = [
        *(f"{name} was left out: {why}" for name, why in told.get("left_out", {}).items() if name not in measured),
        *(f"{name} failed: {why}" for name, why in told.get("failed", {}).items()),
        *(f"{name}: {', '.join(arms)} gave another answer" for name, arms in told.get("different", {}).items()),
    ]
    if lines:
        yield "### What is missing"
        yield "\n".join(f"- {line}" for line in lines)


def _chapter(name: str, document: Document) -> Iterator[str]:
    yield f"### {name}"
    yield from introduction(document)
    yield from _blocks(_grids(document))


def _grids(document: Document) -> list[Grid]:
    return grids(document, (speeds, phases, limits, steps))


def _blocks(found: list[Grid]) -> Iterator[str]:
    for grid in found:
        yield f"#### {grid.title}"
        yield markdown(grid)


def _read(path: Path) -> Document:
    return json.loads(path.read_text(encoding="utf-8"))
