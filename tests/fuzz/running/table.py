"""What a fuzz found: a table by kind, and the names of what has to be mended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from fuzz.running.log import Finished
from fuzz.running.verdict import Verdict

COLUMNS = {
    "answered": (Verdict.ANSWERED,),
    "refused": (Verdict.REFUSED,),
    "tracebacks": (Verdict.TRACEBACK,),
    "beyond 60 s or 4 GB": (Verdict.LATE, Verdict.LARGE),
    "silently wrong": (Verdict.SILENT,),
    "otherwise wrong": (Verdict.OTHERWISE,),
}


def table(finished: Iterable[Finished]) -> str:
    """In Markdown: a row for each kind, and one for all."""
    found: dict[str, list[Finished]] = {}
    for each in finished:
        found.setdefault(each.kind, []).append(each)
    rows = [
        "| kind | inputs | " + " | ".join(COLUMNS) + " | slowest | largest |",
        "|---|" + "---:|" * (len(COLUMNS) + 3),
    ]
    rows += [_row(kind, of) for kind, of in sorted(found.items())]
    return "\n".join([*rows, _row("**all**", [each for of in found.values() for each in of])])


def _row(kind: str, finished: list[Finished]) -> str:
    counts = Counter(each.verdict for each in finished)
    cells = [str(sum(counts[verdict] for verdict in verdicts)) for verdicts in COLUMNS.values()]
    slowest = max((each.seconds for each in finished), default=0.0)
    largest = max((each.memory for each in finished), default=0)
    return f"| {kind} | {len(finished)} | {' | '.join(cells)} | {slowest:.1f} s | {largest / 2**30:.2f} GB |"


def faults(finished: Iterable[Finished]) -> Iterator[str]:
    """A paragraph for each case that came to what no case may come to."""
    for each in finished:
        if not each.verdict.is_right:
            yield (
                f"{each.whole_name}: {each.verdict} (exit code {each.code}, {each.seconds:.1f} s, "
                f"{each.memory / 2**30:.2f} GB): {each.said}\n"
                f'  alone: make fuzz ARGS="--only {each.whole_name}"'
            )
