"""Planner: what is decided for an answer, and what is learnt from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

from specvlm.engine.kv_cache import KVCache
from specvlm.engine.stats import Stats
from specvlm.planning.average import Average
from specvlm.planning.costs import Costs
from specvlm.planning.experience import Experience, Trials
from specvlm.planning.ratios import Ratios, Rounds
from specvlm.planning.tree import MAX_DEPTH, Now, PlannedTree

ANSWER_LENGTH = 128.0
"""Tokens of an answer, before any was seen."""

HOPE = 0.5
"""The share of the decoding time that is believed to be saved, before there is any experience."""

RECENT = 0.9
"""What an answer's length still counts for after the next one."""


@dataclass(frozen=True)
class PairCosts:
    """Measured forwards of a target and its draft (for a target that is its own draft, the same twice)."""

    target: Costs
    draft: Costs


@final
@dataclass(eq=False)
class Planner:
    """For one pair of models on one machine; shared by all of its answers. It decides about time, never about tokens.

    Greedy and sampled answers teach it different things: make one for each.
    """

    costs: PairCosts
    experience: Experience = field(default_factory=Experience)
    ratios: Ratios = field(default_factory=Ratios)
    answers: Trials = field(default_factory=lambda: Trials(patience=2))
    lengths: Average = field(default_factory=lambda: Average(RECENT))

    def expected_length(self, most: int) -> float:
        """Tokens that an answer of at most so many will have."""
        return min(float(most), self.lengths.value(ANSWER_LENGTH))

    def pruning_ratio(self, num_prompt_tokens: int, num_video_tokens: int, max_new_tokens: int) -> float:
        """How many of the video tokens to take from the draft: the best for an answer of the usual length."""
        length = max(2.0, self.expected_length(max_new_tokens))
        target, draft = self.costs.target, self.costs.draft

        def seconds_per_token(ratio: float, like: Rounds, luck: float) -> float:
            seen = num_prompt_tokens - round(num_video_tokens * ratio)
            guessing = like.draft_forwards.value(0.0) * draft.forward(1, seen + round(length / 2))
            checking = target.forward(1 + round(like.guesses.value(0.0)), num_prompt_tokens)
            return draft.forward(seen, 0) / length + (guessing + checking) / (luck * like.tokens.value(1.0))

        return self.ratios.best(seconds_per_token)

    def drafts(self, num_prompt_tokens: int, num_draft_tokens: int, max_new_tokens: int) -> bool:
        """Whether the draft should read its prompt at all."""
        now = Now(self.costs.target, self.costs.draft, self.experience, num_prompt_tokens, num_draft_tokens)
        plain = self.expected_length(max_new_tokens) * now.verify(0)
        saved = 1 - 1 / (now.verify(0) * now.rate) if self.experience.pace.weight else HOPE
        reading = now.draft.forward(num_draft_tokens, 0)
        return self.answers.ask(reading < saved * plain and now.worth(1.0, 0, 1, 0, MAX_DEPTH) > 0)

    def shape(self, target_cache: KVCache, draft_cache: KVCache) -> PlannedTree:
        """That of the trees of one answer."""
        return PlannedTree(self.costs.target, self.costs.draft, self.experience, (target_cache, draft_cache))

    def learn(self, ratio: float | None, num_tokens: int, stats: Stats) -> None:
        """From an answer of so many tokens whose draft was given a prompt pruned by `ratio`; None: it had no draft."""
        self.lengths.add(num_tokens)
        if ratio is not None:
            self.ratios.learn(ratio, num_tokens - 1, stats.num_rounds, stats.num_draft_forwards, stats.num_drafted)
