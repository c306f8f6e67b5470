"""Costs: how long a forward takes, by the number of its rows and of the tokens that are cached."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np


@dataclass(frozen=True)
class Costs:
    """Seconds of a forward over `rows` tokens behind `cached` ones:

        base(rows) + cached * (per_token + rows * per_pair)

    where `base` runs straight from one measured count of rows to the next, and in proportion beyond the last. It never
    falls: more rows are more work, whatever a clock said.
    """

    rows: tuple[int, ...]
    base: tuple[float, ...]
    per_token: float
    per_pair: float

    @classmethod
    def fit(cls, measured: Mapping[tuple[int, int], float]) -> Costs:
        """From seconds by (rows, cached): all counts of rows at the fewest cached tokens, some of them at more.

        Errors: ValueError for fewer than two counts of rows, or one number of cached tokens.
        """
        short = min(cached for _, cached in measured)
        rows = sorted(count for count, cached in measured if cached == short)
        longer = {point: seconds for point, seconds in measured.items() if point[1] > short and point[0] in rows}
        if len(rows) < 2 or not longer:
            raise ValueError(f"costs need two counts of rows and two numbers of cached tokens, not {list(measured)}")
        added = np.array([seconds - measured[count, short] for (count, _), seconds in longer.items()])
        terms = np.array([(cached - short, count * (cached - short)) for count, cached in longer])
        per_token, per_pair = (max(0.0, float(term)) for term in np.linalg.lstsq(terms, added, rcond=None)[0])
        base = [measured[count, short] - short * (per_token + count * per_pair) for count in rows]
        return cls(tuple(rows), tuple(accumulate((max(0.0, each) for each in base), max)), per_token, per_pair)

    @classmethod
    def of(cls, seconds: Callable[[int, int], float], rows: Sequence[int], cached: Sequence[int] = (0, 8192)) -> Costs:
        """Those of a machine that only exists on paper."""
        return cls.fit({(count, length): seconds(count, length) for count in rows for length in cached})

    def forward(self, rows: int, cached: int) -> float:
        """Seconds."""
        place = bisect_left(self.rows, rows)
        if place == len(self.rows):
            base = self.base[-1] * rows / self.rows[-1]
        elif place == 0 or self.rows[place] == rows:
            base = self.base[place]
        else:
            (few, less), (many, more) = ((self.rows[i], self.base[i]) for i in (place - 1, place))
            base = less + (more - less) * (rows - few) / (many - few)
        return base + cached * (self.per_token + rows * self.per_pair)
