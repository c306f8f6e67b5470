"""Planner: what is decided for an answer, and what is learnt from it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import final

from specvlm.engine.caches.kv_cache import KVCache
from specvlm.engine.stats import Stats
from specvlm.planning.average import Average
from specvlm.planning.costs import PairCosts
from specvlm.planning.experience import Experience
from specvlm.planning.prices import Prices
from specvlm.planning.purse import Purse
from specvlm.planning.ratios import Ratios
from specvlm.planning.tree import PlannedTree

ANSWER_LENGTH = 128.0
"""Tokens behind the first one of an answer, before any was seen."""

HOPE, PATIENCE = 2.0, 16.0
"""The speedup that is hoped for before there is any experience, and for how many plain forwards that counts."""

RECENT = 0.9
"""What an answer's length still counts for after the next one."""

SAVED, MOST = 64.0, 8.0
"""Forwards in the purse of answers at most: saved up to read a long prompt once, and after winnings."""

TRUST, FADING = 8.0, 0.8
"""For how many draft forwards the measured costs count, and what those of an answer count for after the next one."""


@final
@dataclass(eq=False)
class Planner:
    """For one pair of models on one machine; shared by all of its answers. It decides about time, never about tokens.

    Greedy and sampled answers teach it different things: make one for each.
    """

    measured: PairCosts
    experience: Experience = field(default_factory=Experience)
    ratios: Ratios = field(default_factory=Ratios)
    purse: Purse = field(default_factory=lambda: Purse(0.0, SAVED, MOST))
    lengths: Average = field(default_factory=lambda: Average(RECENT))
    dearer: Average = field(default_factory=lambda: Average(FADING))
    """How many times dearer drafting was in answers, beside verifying, than by what was measured."""

    @property
    def costs(self) -> PairCosts:
        """What was measured, mended by what answers took: caches gone cold, a disturbed clock, all that surrounds a
        forward."""
        return replace(self.measured, draft=self.measured.draft * self.dearer.value(1.0, TRUST))

    def expected_length(self, most: int) -> float:
        """Tokens behind the first one of an answer of at most so many."""
        return max(1.0, min(most - 1.0, self.lengths.value(ANSWER_LENGTH)))

    def pruning_ratio(self, num_prompt_tokens: int, num_video_tokens: int, max_new_tokens: int) -> float:
        """How many of the video tokens to take from the draft: the best for an answer of the usual length."""
        costs = self.costs
        plain = costs.target.forward(1, num_prompt_tokens) * self.expected_length(max_new_tokens)
        return self.ratios.best(
            lambda ratio: costs.reading(num_prompt_tokens - round(num_video_tokens * ratio)) / plain
        )

    def drafts(self, num_prompt_tokens: int, num_draft_tokens: int, max_new_tokens: int) -> bool:
        """Whether the draft should read its prompt at all."""
        prices = Prices.now(self.costs, self.experience, num_prompt_tokens, num_draft_tokens)
        reading = self.costs.reading(num_draft_tokens) / self.costs.target.forward(1, num_prompt_tokens)
        saved = (1 - 1 / self.experience.speedup.value(HOPE, PATIENCE)) * self.expected_length(max_new_tokens)
        pays = reading < saved and prices.worth_beginning(len(prices.chances)) > 0
        return self.purse.allows(0.0 if pays else reading)

    def shape(self, target_cache: KVCache, draft_cache: KVCache) -> PlannedTree:
        """That of the trees of one answer, whose costs hang on what its caches hold."""
        costs, experience = self.costs, self.experience
        return PlannedTree(lambda: Prices.now(costs, experience, target_cache.length, draft_cache.length), experience)

    def learn(self, ratio: float | None, num_tokens: int, stats: Stats) -> None:
        """From an answer of so many tokens whose draft was given a prompt pruned by `ratio`; None: it had no draft."""
        behind = num_tokens - 1
        self.lengths.add(behind)
        if ratio is None:
            self.purse.settle(behind, behind)
            self.experience.purse.settle(behind, behind)
            return
        costs, cached = self.costs, stats.num_prompt_tokens
        seen = cached - stats.num_video_tokens + stats.num_kept
        plain = costs.target.forward(1, cached)
        verifying = sum(costs.target.forward(len(each.tree), cached) for each in stats.rounds)
        drafting = stats.num_draft_forwards * costs.draft.forward(1, seen)
        decoding = (verifying + drafting) / plain + stats.num_second_looks
        self.ratios.learn(ratio, behind, decoding)
        self.purse.settle(behind, decoding + costs.reading(seen) / plain)
        measured = stats.num_draft_forwards * self.measured.draft.forward(1, seen) / verifying
        self._time(stats, measured)

    def _time(self, stats: Stats, measured: float) -> None:
        """Compare what drafting took, beside verifying, with what it should have taken by what was `measured`.

        Of an answer whose phases nobody timed (`engine.stats.timing_phases`) there is nothing to compare."""
        if "verify" not in stats.phases:
            return
        took, forwards = stats.phases.get("draft", 0.0), stats.num_draft_forwards
        dearer = took / stats.phases["verify"] / measured if forwards else 1.0
        self.dearer.add(forwards * dearer, forwards)
