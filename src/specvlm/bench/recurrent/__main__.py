"""What rounds cost with models that fold what they read: `python -m specvlm.bench.recurrent --page docs/models.md`.

Random models in the shapes of Qwen3.5-9B and 0.8B, in bfloat16: one row, chains and trees, what it takes to go on from
accepted guesses, and to propose them. Each model behind each context leaves a document; all that lie in the folder make
the tables of the page. It takes 4 GB, and under two minutes for each document on two cores.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from specvlm.bench.pocket_pairs import put
from specvlm.bench.recurrent.measuring import measure
from specvlm.bench.recurrent.shapes import SHAPES, random_family
from specvlm.bench.recurrent.showing import Document, tables
from specvlm.machine import machine, versions

FOLDER = Path("docs/bench/recurrent")
MARK = "recurrent"


def document(name: str, cached: int, repeats: int) -> Document:
    """Errors: KeyError for a shape that isn't known."""
    shape = SHAPES[name]
    family = random_family(shape)
    if shape.drafts:
        family.decoder.pack()  # as of every draft
    costs = measure(family, cached, drafts=shape.drafts, repeats=repeats)
    return {
        "shape": name,
        "cached": cached,
        "dtype": str(family.model.dtype).removeprefix("torch."),
        "machine": machine(),
        "versions": versions(),
        "costs": asdict(costs),
    }


def read(folder: Path) -> list[Document]:
    """All that were left in a folder."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m specvlm.bench.recurrent", description=__doc__)
    parser.add_argument("--shapes", nargs="*", choices=list(SHAPES), default=list(SHAPES), help="none: only the page")
    parser.add_argument("--cached", nargs="+", type=int, default=[300, 3000], help="tokens in front (default 300 3000)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=FOLDER, help=f"where documents go (default {FOLDER})")
    parser.add_argument("--page", type=Path, help="put the tables into this page, between its comments")
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    for name in given.shapes:
        for cached in given.cached:
            found = json.dumps(document(name, cached, given.repeats), indent=1)
            (given.out / f"{name}-{cached}.json").write_text(found + "\n", encoding="utf-8")
    text = tables(read(given.out))
    sys.stdout.write(text + "\n")
    if given.page is not None:
        put(given.page, MARK, text)


if __name__ == "__main__":
    main()
