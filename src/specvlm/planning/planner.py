"""Planner: for rounds that the host plays, whose trees grow node by node."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import final

from specvlm.engine.caches.kv_cache import KVCache
from specvlm.engine.stats import Stats
from specvlm.planning.average import Average
from specvlm.planning.costs import PairCosts
from specvlm.planning.deciding import AnswerPlanner, num_seen
from specvlm.planning.prices import Prices
from specvlm.planning.tree import PlannedTree

TRUST, FADING = 8.0, 0.8
"""For how many draft forwards the measured costs count, and what those of an answer count for after the next one."""


@final
@dataclass(eq=False)
class Planner(AnswerPlanner):
    """By what forwards of each model cost, of any number of rows."""

    dearer: Average = field(default_factory=lambda: Average(FADING))
    """How many times dearer drafting was in answers, beside verifying, than by what was measured."""

    @property
    def costs(self) -> PairCosts:
        """What was measured, mended by what answers took: caches gone cold, a disturbed clock, all that surrounds a
        forward."""
        return replace(self.measured, draft=self.measured.draft * self.dearer.value(1.0, TRUST))

    def plain(self, cached: int) -> float:
        return self.measured.target.forward(1, cached)

    def pays(self, target_cached: int, draft_cached: int) -> bool:
        prices = Prices.now(self.costs, self.experience, target_cached, draft_cached)
        return prices.worth_beginning(len(prices.chances)) > 0

    def shape(self, target_cache: KVCache, draft_cache: KVCache) -> PlannedTree:
        costs, experience = self.costs, self.experience
        return PlannedTree(lambda: Prices.now(costs, experience, target_cache.length, draft_cache.length), experience)

    def decoding(self, stats: Stats, seen: int) -> float:
        drafting = stats.num_draft_forwards * self.costs.draft.forward(1, seen)
        plain = self.plain(stats.num_prompt_tokens)
        return (self._verifying(stats) + drafting) / plain + stats.num_second_looks

    def learn(self, ratio: float | None, num_tokens: int, stats: Stats, *, cut: bool = False) -> None:
        super().learn(ratio, num_tokens, stats, cut=cut)
        if ratio is not None:
            drafting = stats.num_draft_forwards * self.measured.draft.forward(1, num_seen(stats))
            self._time(stats, drafting / self._verifying(stats))

    def _verifying(self, stats: Stats) -> float:
        """Seconds, by what was measured."""
        return sum(self.measured.target.forward(len(each.tree), stats.num_prompt_tokens) for each in stats.rounds)

    def _time(self, stats: Stats, measured: float) -> None:
        """Compare what drafting took, beside verifying, with what it should have taken by what was `measured`.

        Of an answer whose phases nobody timed (`engine.stats.timing_phases`) there is nothing to compare."""
        if "verify" not in stats.phases:
            return
        took, forwards = stats.phases.get("draft", 0.0), stats.num_draft_forwards
        dearer = took / stats.phases["verify"] / measured if forwards else 1.0
        self.dearer.add(forwards * dearer, forwards)
