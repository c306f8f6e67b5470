"""Experience: all that a plan learns from rounds. Only times hang on it, never a token."""

from __future__ import annotations

from dataclasses import dataclass, field

from specvlm.planning.acceptance import Acceptance
from specvlm.planning.average import Average
from specvlm.planning.purse import Purse

RECENT = 0.95
"""What a round still counts for after the next one."""

START, MOST = 1.0, 8.0
"""Forwards in the purse of rounds: at first or after losses, and after winnings."""


@dataclass
class Experience:
    """Of one pair of models and one way to choose tokens. Times are counted in plain forwards of the target, behind the
    prompt in question: so what was learnt from one prompt holds for a longer one.

    Answers in flight share it: a lost update costs nothing.
    """

    acceptance: Acceptance = field(default_factory=Acceptance)
    speedup: Average = field(default_factory=lambda: Average(RECENT))
    """Tokens in the time of a plain forward, by what rounds should cost: a clock would be disturbed by all else."""
    purse: Purse = field(default_factory=lambda: Purse(START, START, MOST))

    def settle(self, num_tokens: int, forwards: float) -> None:
        """A round emitted so many tokens in the time of so many plain forwards."""
        self.speedup.add(num_tokens, forwards)
        self.purse.settle(num_tokens, forwards)
