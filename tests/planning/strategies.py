"""Costs and experience, as strange as they can be. Drawn as plain data: beartype rolls dice, and a strategy may not."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

from hypothesis import strategies as st

from specvlm.planning.acceptance import CONFIDENCES, Acceptance
from specvlm.planning.average import Average
from specvlm.planning.costs import Costs, PairCosts
from specvlm.planning.experience import Experience
from specvlm.planning.purse import Purse

SECONDS = st.floats(1e-6, 10.0)
shares = st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 300.0))
model = st.tuples(st.lists(SECONDS, min_size=4, max_size=4), st.floats(0.0, 1e-3), st.floats(0.0, 1e-5))
pairs = st.tuples(model, model)
experiences = st.fixed_dictionaries(
    {
        "by_confidence": st.lists(shares, min_size=1 + len(CONFIDENCES), max_size=1 + len(CONFIDENCES)),
        "by_depth": st.lists(shares, max_size=30),
        "speedup": st.tuples(st.floats(0.01, 30.0), st.floats(0.0, 50.0)),
        "left": st.floats(-50.0, 8.0),
    }
)


def pair_costs(drawn: Any) -> PairCosts:
    return PairCosts(*(Costs((1, 2, 16, 64), tuple(accumulate(base)), *slopes) for base, *slopes in drawn))


def experience(drawn: dict[str, Any]) -> Experience:
    def average(share: tuple[float, float], memory: float = 0.99) -> Average:
        return Average(memory, share[0] * share[1], share[1])

    acceptance = Acceptance(
        [average(each) for each in drawn["by_confidence"]], [average(each) for each in drawn["by_depth"]]
    )
    return Experience(acceptance, average(drawn["speedup"], 0.95), Purse(drawn["left"], 1.0, 8.0))
