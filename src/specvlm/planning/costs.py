"""Costs: how long a forward takes, by the number of its rows and of the tokens that are cached."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

import numpy as np

from specvlm.planning.average import Number

LEAST = 1e-9
"""Seconds of any forward."""


@dataclass(frozen=True)
class Costs:
    """Seconds of a forward over `rows` tokens behind `cached` ones:

        base(rows) + cached * (per_token + rows * per_pair)

    where `base` runs straight from one measured count of rows to the next, and in proportion beyond the last. It never
    falls: more rows are more work, whatever a clock said.

    Errors: ValueError for counts of rows that don't increase, or seconds that fall, or are none.
    """

    rows: tuple[int, ...]
    base: tuple[Number, ...]
    per_token: Number
    per_pair: Number

    def __post_init__(self) -> None:
        rows_increase = all(few < many for few, many in pairwise((0, *self.rows)))
        base_never_falls = all(less <= more for less, more in pairwise(self.base)) and min(self.base, default=0) > 0
        all_finite = np.isfinite([*self.base, self.per_token, self.per_pair]).all()
        none_negative = self.per_token >= 0 and self.per_pair >= 0
        fits = 0 < len(self.rows) == len(self.base)
        if not (fits and rows_increase and base_never_falls and all_finite and none_negative):
            raise ValueError(f"no forward costs {self}")

    @classmethod
    def fit(cls, measured: Mapping[tuple[int, int], Number]) -> Costs:
        """From seconds by (rows, cached): all counts of rows at the fewest cached tokens, some of them at more.

        Errors: ValueError for fewer than two counts of rows, or one number of cached tokens.
        """
        short = min(cached for _, cached in measured)
        rows = sorted(count for count, cached in measured if cached == short)
        longer = {point: seconds for point, seconds in measured.items() if point[1] > short and point[0] in rows}
        if len(rows) < 2 or not longer:
            raise ValueError(f"costs need two counts of rows and two numbers of cached tokens, not {list(measured)}")
        added = np.array([seconds - measured[count, short] for (count, _), seconds in longer.items()])
        terms = np.array([(cached - short, count * (cached - short)) for count, cached in longer], dtype=float)
        per_token, per_pair = _not_negative(terms, added)
        base = [measured[count, short] - short * (per_token + count * per_pair) for count in rows]
        return cls(tuple(rows), tuple(_never_falling(max(LEAST, each) for each in base)), per_token, per_pair)

    @classmethod
    def of(cls, seconds: Callable[[int, int], Number], rows: Sequence[int], cached: Sequence[int] = (0, 8192)) -> Costs:
        """Those of a machine that only exists on paper."""
        return cls.fit({(count, length): seconds(count, length) for count in rows for length in cached})

    def __mul__(self, times: Number) -> Costs:
        """Those of a model whose every forward takes so many times as long."""
        base = tuple(times * each for each in self.base)
        return replace(self, base=base, per_token=times * self.per_token, per_pair=times * self.per_pair)

    def forward(self, rows: int, cached: int) -> float:
        """Seconds."""
        return float(_base(self.rows, self.base, rows) + cached * (self.per_token + rows * self.per_pair))

    def forwards(self, most: int, cached: int) -> np.ndarray:
        """Seconds of one over 1, 2, ... and so on to `most` rows."""
        base, slope = _lines(self, most)
        return base + cached * slope


@dataclass(frozen=True)
class PairCosts:
    """Those of a target and its draft."""

    target: Costs
    draft: Costs
    draft_reads: bool = True
    """Whether the draft reads a prompt of its own. A target that drafts for itself has read it."""

    def reading(self, num_tokens: int) -> float:
        """Seconds that the draft needs for its prompt."""
        return self.draft.forward(num_tokens, num_tokens // 2) if self.draft_reads else 0.0


def _base(measured: Sequence[int], seconds: Sequence[Number], rows: int) -> Number:
    place = bisect_left(measured, rows)
    if place == len(measured):
        return seconds[-1] * rows / measured[-1]
    if place == 0 or measured[place] == rows:
        return seconds[place]
    (few, less), (many, more) = ((measured[i], seconds[i]) for i in (place - 1, place))
    return less + (more - less) * (rows - few) / (many - few)


@lru_cache(maxsize=64)  # asked in every round, of the same costs all through an answer
def _lines(costs: Costs, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Of forwards over 1, 2, ... rows: seconds behind nothing, and how many more each cached token takes."""
    rows = np.arange(1, most + 1)
    base = [float(_base(costs.rows, costs.base, each)) for each in rows.tolist()]
    return np.array(base), costs.per_token + rows * costs.per_pair


def _not_negative(terms: np.ndarray, added: np.ndarray) -> tuple[float, float]:
    """The least squares of two coefficients, neither below 0."""
    first, second = np.linalg.lstsq(terms, added, rcond=None)[0]
    if first >= 0 and second >= 0:
        return float(first), float(second)
    alone = [max(0.0, float(term @ added / (term @ term))) for term in terms.T]
    misses = [float(((added - each * term) ** 2).sum()) for each, term in zip(alone, terms.T, strict=True)]
    return (alone[0], 0.0) if misses[0] <= misses[1] else (0.0, alone[1])


def _never_falling(values: Iterable[float]) -> list[float]:
    """The nearest row of numbers that never falls: neighbours in the wrong order share their mean.

    (Pool adjacent violators; Ayer et al., doi:10.1214/aoms/1177728423.)
    """
    pools: list[tuple[float, int]] = []
    for value in values:
        mean, size = value, 1
        while pools and pools[-1][0] > mean:
            before, more = pools.pop()
            mean, size = (before * more + mean * size) / (more + size), more + size
        pools.append((mean, size))
    return [mean for mean, size in pools for _ in range(size)]
