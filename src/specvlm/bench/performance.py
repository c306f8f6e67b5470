"""docs/performance.md, made of what `specvlm bench --out docs/bench` left: `python -m specvlm.bench.performance`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from specvlm.bench import exactness, questions
from specvlm.bench.showing import readers
from specvlm.bench.showing.renderings import markdown
from specvlm.bench.showing.report import (
    Document,
    Grid,
    grids,
    growth,
    introduction,
    limits,
    phases,
    speeds,
    stem,
    steps,
)

PAGE = Path("docs/performance.md")
FOLDER = Path("docs/bench")

OPENING = """\
# Performance

<!-- Written by `python -m specvlm.bench.performance` out of the files in docs/bench; a test fails when it is stale. -->

Every figure on this page was measured by `make bench-quick` (the embedded pairs) or `make bench` (real shapes too), all
that stands under one pair in one run, its arms in turns. Beside each speedup stands how exact the arm's answers were:
all of them are compared with stock Hugging Face `generate`, token by token.

`specvlm bench --html` writes a pair's chapter as a page of its own:

<picture><source media="(prefers-color-scheme: dark)" srcset="pictures/pages/bench-1280-dark.png"><img
alt="The page of a bench" src="pictures/pages/bench-1280-light.png"></picture>

Long prefills of real shapes run with a glibc whose malloc keeps what is freed, stock `generate` as all others: on a CPU
that takes a quarter off them. `GLIBC_TUNABLES` in the Makefile does it, and can for you."""

HOW_TO_READ = "How to read the tables"

CHAPTERS: dict[str, Callable[[Document], Grid]] = {
    "exactness": exactness.grid_of,
    "questions": questions.grid_of,
    "reading": readers.grid_of,
}
"""What other commands left in the folder, as files called KEY-....json, and the grid to be made of each."""

IN_SUMMARY = (
    *("ar", "ar-no-cudnn", "ar-static", "loop", "assisted", "assisted-static", "prompt_lookup"),
    *("sd", "specvlm", "auto"),
)
"""Of arms with ratios each counts."""

HEADLINE = {
    "assisted": "HF assisted",
    "prompt_lookup": "HF prompt lookup",
    "loop": "specvlm's loop alone",
    "sd": "plain speculation",
    "specvlm@0.9": "SpecVLM, 90 % pruned",
    "auto": 'SpecVLM, `plan="auto"`',
}
"""The columns of the README's table: what others offer, and what each step adds."""


def page(folder: Path, pictures: str) -> str:
    """The whole page. `pictures` is the folder as seen from the page."""
    kinds = {path: next((kind for kind in CHAPTERS if path.name.startswith(f"{kind}-")), "") for path in _files(folder)}
    benches = [_read(path) for path, kind in kinds.items() if not kind]
    others = [CHAPTERS[kind](_read(path)) for path, kind in kinds.items() if kind]
    parts = [OPENING, *_blocks([summary(benches)])]
    for document in benches:
        parts += _chapter(document, pictures)
    parts += _blocks(others, "##")
    notes = dict.fromkeys(note for each in benches for grid in grids(each) for note in grid.notes)
    notes |= dict.fromkeys(note for grid in others for note in grid.notes)
    parts += [f"## {HOW_TO_READ}", "\n".join(f"- {note}" for note in notes)]
    return "\n\n".join(parts) + "\n"


def summary(documents: Iterable[Document]) -> Grid:
    """All pairs at a glance: each at its longest prompt and answer."""
    rows = tuple(
        (
            f"{document['bench']['pair']}, {document['bench']['dtype']}",
            arm["arm"],
            str(arm["num_video_tokens"]),
            str(arm["tokens"]),
            "yes" if arm["identical"] else f"no, {arm['first_divergence']}",
            f"{arm['mean_acceptance_length']:.2f}",
            f"{arm['decode_speedup']:.2f} x",
            f"{arm['end_to_end_speedup']:.2f} x",
        )
        for document in map(longest, documents)
        for arm in document["arms"]
        if arm["arm"].partition("@")[0] in IN_SUMMARY
    )
    head = ("pair", "arm", "video tokens", "answer", "same", "acceptance", "decode", "end to end")
    return Grid("At a glance", head, rows)


def headline(documents: Iterable[Document]) -> Grid:
    """The README's table: two rows a pair, at its longest prompt and answer. What wasn't measured is left empty."""
    rows = []
    for document in map(longest, documents):
        arms = {arm["arm"]: arm for arm in document["arms"]}
        about = (
            f"{document['bench']['pair']}, {arms['ar']['num_video_tokens']} video tokens, {document['bench']['dtype']}"
        )
        for what, speedup in (
            (f"{about}: decoding", "decode_speedup"),
            ("from the closed file to the last token", "end_to_end_speedup"),
        ):
            rows.append((what, *(f"{arms[arm][speedup]:.2f} x" if arm in arms else "" for arm in HEADLINE)))
    return Grid("Headline", ("times as fast as stock `generate`", *HEADLINE.values()), tuple(rows))


def _chapter(document: Document, pictures: str) -> Iterator[str]:
    name = stem(document)
    yield f"## {document['bench']['pair']}, {document['bench']['dtype']}"
    yield from introduction(document)
    yield (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{pictures}/{name}-dark.png">'
        f'<img alt="Speedups, phases and growth of {name}" src="{pictures}/{name}.png"></picture>'
    )
    yield from _blocks(grids(document, (speeds,)))
    yield from _blocks(grids(longest(document), (phases, limits)))
    yield from _blocks(grids(document, (steps, growth)))


def longest(document: Document) -> Document:
    """Without all cells but the last: where the time goes is much the same in each, and the page is long."""
    cell = document["cells"][-1]
    arms = [a for a in document["arms"] if all(a[name] == cell[name] for name in ("video_tokens", "new_tokens"))]
    return {**document, "cells": [cell], "arms": arms}


def _blocks(found: Iterable[Grid], level: str = "###") -> Iterator[str]:
    for grid in found:
        yield f"{level} {grid.title}"
        yield markdown(grid)


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.json"))


def _read(path: Path) -> Document:
    return json.loads(path.read_text(encoding="utf-8"))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m specvlm.bench.performance", description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the documents are (default docs/bench)")
    parser.add_argument("--page", type=Path, default=PAGE, help="what to write (default docs/performance.md)")
    parser.add_argument("--headline", nargs="+", help="write the README's table of these PAIR-DTYPE to standard output")
    given = parser.parse_args(arguments)
    if not _files(given.folder):
        parser.error(f"there is no document in {given.folder}: run make bench-quick")
    if given.headline:
        documents = [_read(given.folder / f"{name}.json") for name in given.headline]
        sys.stdout.write(markdown(headline(documents)) + "\n")
        return
    pictures = Path(os.path.relpath(given.folder, given.page.parent)).as_posix()
    given.page.write_text(page(given.folder, pictures), encoding="utf-8")


if __name__ == "__main__":
    main()
