"""Worlds: texts that a draft guesses more or less well, told on a machine whose clock is arithmetic."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from specvlm.engine.caches.kv_cache import TreeCache
from specvlm.engine.stats import Round, Stats
from specvlm.engine.tree import DraftTree, Growth, TreeShape
from specvlm.planning.costs import Costs, PairCosts

RANKS = 6
"""Tokens that the draft can say: its best guess is 0, its next best is 1, ..."""

SURE = (0.35, 0.6, 0.8, 0.9, 0.97, 0.97, 0.99, 0.99)
"""How sure the draft is of its best guess, from place to place."""

PROMPT, DRAFT_PROMPT = 1000, 100
"""Tokens that target and draft have read."""


@dataclass(frozen=True)
class Place:
    """A place in a text: how sure the draft is of its best guess there, and the rank of the right one; -1: none of
    those that it has."""

    sure: float
    rank: int


ShapeOver = Callable[[TreeCache, TreeCache], TreeShape]
"""As `Planner.shape`."""


def spoken(sure: float) -> list[float]:
    """What a draft says, by rank: each guess has half of what those before it left, the last one the rest."""
    probs = [sure]
    while len(probs) < RANKS - 1:
        probs.append((1 - sum(probs)) / 2)
    return [*probs, 1 - sum(probs)]


def text(seed: int, length: int, right: float, others: float, sure: Sequence[float] = SURE) -> list[Place]:
    """A draft that is sure by `s` is right `right * s` times; so is each other guess `others` times as often as it
    says."""
    dice, places = random.Random(seed), []
    for _ in range(length):
        said = spoken(dice.choice(sure))
        true = [right * said[0], *(others * each for each in said[1:])]
        places.append(Place(said[0], dice.choices([*range(RANKS), -1], [*true, max(0.0, 1 - sum(true))])[0]))
    return places


def texts(number: int, length: int = 128, right: float = 1.0, others: float = 1.0, seed: int = 0) -> list[list[Place]]:
    return [text(1000 * seed + each, length, right, others) for each in range(number)]


def linear(seconds: float, per_row: float = 0.0, per_token: float = 0.0) -> Costs:
    """Of a model of so many seconds a forward, and more for each row after the first and for each cached token."""
    return Costs.of(lambda rows, cached: seconds + per_row * (rows - 1) + per_token * cached, (1, 2, 64, 256))


def machine(draft: float, per_row: float = 0.005) -> PairCosts:
    """One on which a forward of the target takes a second, and one of the draft `draft`."""
    return PairCosts(linear(1.0, per_row), linear(draft, draft * 0.01))


def cache(length: int) -> TreeCache:
    """One that holds so many tokens, or says so."""
    made = TreeCache(1, length)
    made.layers[0].length = length
    return made


def plain_seconds(costs: PairCosts, length: int) -> float:
    """Of an answer of so many tokens by plain decoding, the prompt's reading left out."""
    return sum(costs.target.forward(1, PROMPT + token) for token in range(length - 1))


def tell(places: Sequence[Place], costs: PairCosts, shape_over: ShapeOver | None) -> Stats:
    """An answer, as the loop would decode it: `decode_seconds` and the phases are what forwards cost. Without a shape
    there is no draft."""
    caches = cache(PROMPT), cache(DRAFT_PROMPT)
    shape = None if shape_over is None else shape_over(*caches)
    teller = _Teller(places, costs, caches)
    place = 1  # the prompt's reading gave the first token
    while place < len(places):
        growth = None if shape is None else shape.sprout(0, len(places) - place - 1)
        place += teller.round(place, growth)
    stats = teller.stats
    stats.num_tokens, stats.num_prompt_tokens = len(places), PROMPT
    stats.num_video_tokens, stats.num_kept = PROMPT - DRAFT_PROMPT, 0
    stats.decode_seconds = sum(stats.phases.values())
    return stats


@dataclass
class _Teller:
    places: Sequence[Place]
    costs: PairCosts
    caches: tuple[TreeCache, TreeCache]
    stats: Stats = field(default_factory=lambda: Stats(phases={"draft": 0.0, "verify": 0.0}))
    waiting: int = 1

    def __post_init__(self) -> None:
        self.elsewhere = random.Random(len(self.places))

    def round(self, place: int, growth: Growth | None) -> int:
        """Returns how many tokens it emitted."""
        tree, path, forwards = DraftTree((0,), (-1,)), [0], 0
        if growth is not None:
            depths, forwards = self._grow(place, growth)
            tree, numbers = growth.finish()
            path = sorted((n for n, number in enumerate(numbers) if number in depths), key=lambda n: tree.depths[n])
            growth.judged(numbers, [numbers[node] for node in path])
        target, draft = (each.layers[0] for each in self.caches)
        self.stats.phases["verify"] += self.costs.target.forward(len(tree), target.length)
        target.length += len(path)
        self.waiting += len(path)
        if growth is not None:
            draft.length += len(path)
            self.waiting = 1
        self.stats.add_round(Round(tree, tuple(path), 0, forwards))
        return len(path)

    def _grow(self, place: int, growth: Growth) -> tuple[dict[int, int], int]:
        """The depths of those of its nodes that the text goes through, and the number of draft forwards."""
        frontier, depths, forwards, cached = [0], {0: 0}, 0, self.caches[1].length
        rows = self.waiting
        while frontier:
            self.stats.phases["draft"] += self.costs.draft.forward(rows, cached)
            cached, forwards, made = cached + rows, forwards + 1, len(growth.tokens)
            frontier = growth.extend(torch.stack([self._logits(place, depths.get(node)) for node in frontier]))
            rows = len(frontier)
            for node in range(made, len(growth.tokens)):
                depth = depths.get(growth.parents[node])
                if depth is not None and self.places[place + depth].rank == growth.tokens[node]:
                    depths[node] = depth + 1
        return depths, forwards

    def _logits(self, place: int, depth: int | None) -> Tensor:
        sure = self.elsewhere.choice(SURE) if depth is None else self.places[place + depth].sure
        return torch.tensor(spoken(sure)).log()
