"""The pairs that SpecVLM reports (arXiv:2508.16201), on machines that were not there: predictions from bytes alone.

A forward takes as long as its weights, keys and values need from memory, or its products from the card's arithmetic:
no kernel is as fast, and nothing else is counted. Of several cards that hold one model, each in turn reads its own
layers (as with `device_map="auto"`), so that together they are as fast as one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from specvlm.bench.roofline import PUBLISHED, Demand, Machine
from specvlm.bench.widened.shapes import ON_PAPER, Pair, Shape
from specvlm.engine.tree import PAPER_TREE
from specvlm.planning.costs import Costs, PairCosts
from specvlm.planning.prediction import Expected, best, expected

DTYPE = torch.bfloat16
ROWS = (1, 2, 4, 8, 16, 24, 32, 48, 64)
CARD_BYTES = {"H100 SXM": 80e9, "L40S": 48e9}
"""Memory of the cards that predictions are made for."""

REPORTED = {"llava-onevision-72b+7b": 2.68, "qwen2.5-vl-32b+7b": 2.11}
"""Decode speedups as the paper reports them: measured by others, on cards that may be different ones."""


@dataclass(frozen=True)
class Predicted:
    """A pair on a machine, where the draft's best guess is right at a `rate`."""

    pair: str
    machine: str
    num_cards: int
    rate: float
    paper_tree: Expected
    planned_tree: Expected
    reported_speedup: float


def costs(pair: Pair, machine: Machine) -> PairCosts:
    """Of both models at the machine's roofline."""
    return PairCosts(_costs(pair.target, machine), _costs(pair.draft, machine))


def _costs(shape: Shape, machine: Machine) -> Costs:
    demand = Demand.of_shape(shape, DTYPE)
    return Costs.of(lambda rows, cached: machine.seconds(demand.forward(rows, cached)), ROWS)


def num_cards(pair: Pair, card_bytes: float, target_cached: int, draft_cached: int) -> int:
    """Cards that hold both models and what they have read, if nothing else."""
    needed = sum(
        shape.num_parameters * DTYPE.itemsize + cached * shape.kv_bytes_per_token(DTYPE)
        for shape, cached in ((pair.target, target_cached), (pair.draft, draft_cached))
    )
    return math.ceil(needed / card_bytes)


def predict(rate: float, name: str, card: str, target_cached: int, draft_cached: int) -> Predicted:
    """For one of ON_PAPER on one kind of card. `cached` are the tokens that each model looks back at."""
    pair, cached = ON_PAPER[name], (target_cached, draft_cached)
    known = costs(pair, PUBLISHED[card])
    return Predicted(
        pair=name,
        machine=card,
        num_cards=num_cards(pair, CARD_BYTES[card], *cached),
        rate=rate,
        paper_tree=expected(PAPER_TREE, rate, known, *cached),
        planned_tree=best(rate, known, *cached),
        reported_speedup=REPORTED[name],
    )
