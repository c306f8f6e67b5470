"""AnswerPlanner: what is decided for an answer, and what is learnt from it, wherever its rounds are played."""

from __future__ import annotations

import abc
from dataclasses import dataclass, field

from specvlm.engine.caches.kv_cache import KVCache
from specvlm.engine.stats import Stats
from specvlm.engine.tree import TreeShape
from specvlm.planning.average import Average
from specvlm.planning.costs import PairCosts
from specvlm.planning.experience import Experience
from specvlm.planning.purse import Purse
from specvlm.planning.ratios import Ratios

ANSWER_LENGTH = 128.0
"""Tokens behind the first one of an answer, before any was seen."""

HOPE, PATIENCE = 2.0, 16.0
"""The speedup that is hoped for before there is any experience, and for how many plain forwards that counts."""

RECENT = 0.9
"""What an answer's length still counts for after the next one."""

SAVED, MOST = 64.0, 8.0
"""Forwards in the purse of answers at most: saved up to read a long prompt once, and after winnings."""

DEBT = 2.0
"""Forwards that may be missing in it where guesses should pay: a short answer that didn't pay for its reading shall not
keep the draft from the long one that comes next."""


@dataclass(eq=False)
class AnswerPlanner(abc.ABC):
    """For one pair of models on one machine; shared by all of its answers. It decides about time, never about tokens.

    Greedy and sampled answers teach it different things: make one for each.
    """

    measured: PairCosts
    experience: Experience = field(default_factory=Experience)
    ratios: Ratios = field(default_factory=Ratios)
    purse: Purse = field(default_factory=lambda: Purse(0.0, SAVED, MOST))
    lengths: Average = field(default_factory=lambda: Average(RECENT))

    @property
    def costs(self) -> PairCosts:
        """What the host's forwards cost: those that read a prompt, wherever rounds are played."""
        return self.measured

    @abc.abstractmethod
    def plain(self, cached: int) -> float:
        """Seconds of a round without guesses, behind so many tokens."""

    @abc.abstractmethod
    def pays(self, target_cached: int, draft_cached: int) -> bool:
        """Whether there are tokens to be won by guessing, for models that have read so many."""

    @abc.abstractmethod
    def shape(self, target_cache: KVCache, draft_cache: KVCache) -> TreeShape:
        """That of the trees of one answer, whose costs hang on what its caches hold."""

    @abc.abstractmethod
    def decoding(self, stats: Stats, seen: int) -> float:
        """How long an answer's rounds took by what was measured, in plain ones behind its prompt. That of the draft has
        `seen` tokens."""

    def expected_length(self, most: int) -> float:
        """Tokens behind the first one of an answer of at most so many."""
        return max(1.0, min(most - 1.0, self.lengths.value(ANSWER_LENGTH)))

    def pruning_ratio(self, num_prompt_tokens: int, num_video_tokens: int, max_new_tokens: int) -> float:
        """How many of the video tokens to take from the draft: the best for an answer of the usual length."""
        costs, plain = self.costs, self.plain(num_prompt_tokens) * self.expected_length(max_new_tokens)
        return self.ratios.best(
            lambda ratio: costs.reading(num_prompt_tokens - round(num_video_tokens * ratio)) / plain
        )

    def drafts(self, num_prompt_tokens: int, num_draft_tokens: int, max_new_tokens: int) -> bool:
        """Whether the draft should read its prompt at all."""
        reading = self.costs.reading(num_draft_tokens) / self.plain(num_prompt_tokens)
        saved = (1 - 1 / self.experience.speedup.value(HOPE, PATIENCE)) * self.expected_length(max_new_tokens)
        pays = reading < saved and self.pays(num_prompt_tokens, num_draft_tokens)
        return self.purse.allows(-DEBT if pays else reading)

    def learn(self, ratio: float | None, num_tokens: int, stats: Stats, *, cut: bool = False) -> None:
        """From an answer of so many tokens whose draft was given a prompt pruned by `ratio`; None: it had no draft.
        `cut`: it was as long as it might be, and doesn't tell how long answers are here, but that they may be longer.
        """
        behind = num_tokens - 1
        self.lengths.add(max(behind, self.lengths.value(ANSWER_LENGTH)) if cut else behind)
        if ratio is None:
            self.purse.settle(behind, behind)
            self.experience.purse.settle(behind, behind)
            return
        seen = num_seen(stats)
        decoding = self.decoding(stats, seen)
        self.ratios.learn(ratio, behind, decoding)
        self.purse.settle(behind, decoding + self.costs.reading(seen) / self.plain(stats.num_prompt_tokens))


def num_seen(stats: Stats) -> int:
    """Tokens of the draft's prompt."""
    return stats.num_prompt_tokens - stats.num_video_tokens + stats.num_kept
