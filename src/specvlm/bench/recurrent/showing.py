"""What was measured, as tables: what steps cost, and how many tokens a round has to bring before it pays."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from specvlm.bench.recurrent.measuring import TREES
from specvlm.engine.tree import TreeTemplate
from specvlm.planning.prediction import chances

RATES = (0.5, 0.7, 0.9)
"""How often the draft's best guess may be right."""

Document = Mapping[str, Any]
"""One model behind one context, as `specvlm.bench.recurrent` writes it."""


def tables(documents: Iterable[Document]) -> str:
    """All of them, and the rounds of each model without proposals with each that has some."""
    known = sorted(documents, key=lambda each: (each["shape"], each["cached"]))
    return "\n\n".join([_origin(known), _steps(known), _held(known), _rounds(known)])


def _origin(known: Sequence[Document]) -> str:
    repeats = {len(each["costs"]["stock"]) for each in known}
    said = sorted({_where(each) for each in known})
    times = [seconds for each in known for kind in ("read", "keep") for seconds in each["costs"][kind].values()]
    unrest = statistics.median(max(seconds) / min(seconds) for seconds in times) - 1
    return (
        f"{'; '.join(said)}; milliseconds, medians of {' or '.join(map(str, sorted(repeats)))}, whose longest mostly "
        f"took {100 * unrest:.0f} % more than their shortest."
    )


def _where(each: Document) -> str:
    """What the figures were measured on, and with."""
    machine, versions = each["machine"], each["versions"]
    threads = f"{machine['threads']} thread{'s' * (machine['threads'] > 1)}"
    with_what = f"torch {versions['torch']}, transformers {versions['transformers']}"
    return f"{each['dtype']}; {machine['cpu']}, {threads}, {with_what}"


def _steps(known: Sequence[Document]) -> str:
    kept = sorted({count for each in known for count in each["costs"]["keep"]}, key=int)
    head = ("", "behind", "stock, one row", *TREES, *(f"keep {count}" for count in kept))
    rows = []
    for each in known:
        costs = each["costs"]
        times = (costs["stock"], *(costs["read"][name] for name in TREES), *(costs["keep"][count] for count in kept))
        rows.append((each["shape"], f"{each['cached']:,}", *(_ms(seconds) for seconds in times)))
    return _table(head, rows, texts=1)


def _held(known: Sequence[Document]) -> str:
    """Which hangs on no context."""
    of_shape = {each["shape"]: each["costs"]["state_bytes"] for each in known}
    rows = [(name, *(f"{held[tree] / 2**20:.0f}" for tree in TREES)) for name, held in of_shape.items()]
    return _table(("MiB held for states after", *TREES), rows, texts=1)


def _rounds(known: Sequence[Document]) -> str:
    gains = (f"gain at {rate}" for rate in RATES)
    head = ("a round of", "behind", "tree", "guess", "check", "keep 4", "in all", "pays above", *gains)
    rows = []
    for target in known:
        for draft in known:
            if target["costs"]["propose"] or target["cached"] != draft["cached"]:
                continue
            for name, guess in draft["costs"]["propose"].items():
                parts = [_median(each) for each in (guess, target["costs"]["read"][name], target["costs"]["keep"]["4"])]
                least = sum(parts) / _median(target["costs"]["stock"])
                rows.append(
                    (
                        f"{target['shape']} + {draft['shape'].rpartition('-')[2]}",
                        f"{target['cached']:,}",
                        name,
                        *(f"{1000 * part:.0f}" for part in (*parts, sum(parts))),
                        f"{least:.1f} tokens",
                        *(f"{tokens(TREES[name], rate) / least:.2f} x" for rate in RATES),
                    )
                )
    return _table(head, rows, texts=1)


def tokens(tree: TreeTemplate | None, rate: float) -> float:
    """What a round brings on the whole, the target's own token included, where best guesses are right at a `rate`."""
    if tree is None:
        return 1.0
    right, values = chances(rate), [1.0]
    for parent, rank in zip(tree.parents[1:], tree.ranks[1:], strict=True):
        values.append(values[parent] * right[rank])
    return sum(values)


def _median(seconds: Sequence[float]) -> float:
    return statistics.median(seconds)


def _ms(seconds: Sequence[float]) -> str:
    return f"{1000 * _median(seconds):.0f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], texts: int) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * texts + "---:|" * (len(head) - texts)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
