"""Answers told by rounds of a plan, on a machine whose clock is arithmetic."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from planning.worlds import machine
from specvlm.engine.rounds.report import Report
from specvlm.engine.tree import DynamicTree, chain
from specvlm.planning.rounds.choosing import EnvelopePlan
from specvlm.planning.rounds.costs import ENVELOPES, Line, RoundCosts, Timed
from specvlm.planning.rounds.planner import DevicePlanner

Chance = Callable[[DynamicTree], float]
"""That a guess of the best branch is right whose parent is, in trees of a shape."""


def costs(draft: float, per_row: float = 0.005, shapes: tuple[DynamicTree, ...] = ENVELOPES) -> RoundCosts:
    """A draft level takes `draft` times as long as a plain round, and each guess `per_row` to verify."""
    timed = (Timed(each, Line(draft * each.depth, 0.0), Line(1 + per_row * each.num_nodes, 0.0)) for each in shapes)
    return RoundCosts(Line(1.0, 0.0), tuple(timed))


def planner(draft: float, per_row: float = 0.005) -> DevicePlanner:
    return DevicePlanner(machine(0.02), rounds=costs(draft, per_row))


def plan_of(of: DevicePlanner) -> EnvelopePlan:
    return of._plan(lambda: (1000, 1000, 100))


@dataclass
class Told:
    """What became of an answer: how long it took, in plain rounds, and how often each shape was played."""

    seconds: float = 0.0
    played: Counter[DynamicTree | None] = field(default_factory=Counter)


def report(shape: DynamicTree, reached: int) -> Report:
    """Of a round whose tree is a chain that is right down to a depth of `reached`."""
    tree_shape = chain(shape.depth)
    growth = tree_shape.sprout(0, shape.depth)
    assert growth is not None
    growth.tokens, growth.parents = list(range(1 + shape.depth)), list(tree_shape.parents)
    tree, _ = growth.finish()
    return Report(tree, shape.depth, tuple(range(1 + reached)), tuple(range(1 + reached)), False, ())


def tell(plan: EnvelopePlan, chance: Chance, length: int, seed: int = 0) -> Told:
    dice, told, place = random.Random(seed), Told(), 0
    while place < length:
        shape = plan.choose(length - place - 1, 0) if length - place > 1 else None
        told.played[shape] += 1
        if shape is None:
            told.seconds, place = told.seconds + 1, place + 1
            continue
        reached = 0
        while reached < shape.depth and dice.random() < chance(shape):
            reached += 1
        plan.learn(report(shape, reached))
        told.seconds, place = told.seconds + plan.forwards(shape), place + 1 + reached
    return told
