"""DevicePlanner: for rounds that are played on the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast, final

from specvlm.engine.caches.kv_cache import KVCache
from specvlm.engine.caches.stacked_cache import StackedCache, bucket
from specvlm.engine.stats import Stats
from specvlm.engine.tree import DynamicTree
from specvlm.planning.deciding import AnswerPlanner
from specvlm.planning.rounds.choosing import EnvelopePlan, Record
from specvlm.planning.rounds.costs import RoundCosts

Places = tuple[int, int, int]
"""Tokens in the target's cache, and the places that the target's and the draft's forwards of a round look at."""


@final
@dataclass(eq=False)
class DevicePlanner(AnswerPlanner):
    """By what whole rounds cost, each of an envelope that was timed. No clock of an answer has a say in it: the halves
    of a captured round aren't told apart."""

    rounds: RoundCosts = field(kw_only=True)
    record: Record = field(default_factory=Record)

    def plain(self, cached: int) -> float:
        return self.rounds.plain.at(cached)

    def pays(self, target_cached: int, draft_cached: int) -> bool:
        places = (bucket(target_cached), bucket(draft_cached)) if self.rounds.whole else (target_cached, draft_cached)
        plan = self._plan(lambda: (target_cached, *places))
        return any(each.speedup > 1 for each in plan.prospects(plan.max_depth))

    def shape(self, target_cache: KVCache, draft_cache: KVCache) -> EnvelopePlan:
        target, draft = (cast(StackedCache, each) for each in (target_cache, draft_cache))  # the device has no others
        if self.rounds.whole:
            return self._plan(lambda: (target.length, target.capacity, draft.capacity))
        return self._plan(lambda: (target.length, target.length, draft.length))

    def _plan(self, places: Callable[[], Places]) -> EnvelopePlan:
        """Of an answer whose caches are, before each round, what `places` says."""
        timed = {each.shape: each for each in self.rounds.rounds}

        def forwards(shape: DynamicTree) -> float:
            cached, target, draft = places()
            return timed[shape].seconds(target, draft) / self.plain(cached)

        def reading(num_tokens: int) -> float:
            cached, _, draft = places()
            return self.measured.draft.forward(num_tokens, draft) / self.plain(cached)

        return EnvelopePlan(tuple(timed), forwards, reading, self.experience, self.record)

    def decoding(self, stats: Stats, seen: int) -> float:
        cached = stats.num_prompt_tokens
        places = (bucket(cached), bucket(seen)) if self.rounds.whole else (cached, seen)
        timed = (self.rounds.of(each) for each in stats.rounds)
        return sum(1.0 if each is None else each.seconds(*places) / self.plain(cached) for each in timed)
