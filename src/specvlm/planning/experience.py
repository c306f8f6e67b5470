"""Experience: all that a plan learns from answers. Only times hang on it, never a token."""

from __future__ import annotations

from dataclasses import dataclass, field

from specvlm.planning.acceptance import Acceptance
from specvlm.planning.average import Average

RECENT = 0.95
"""What a round still counts for after the next one."""

PATIENCE = range(8, 513)
"""After how many rounds without a guess one is tried all the same: at first, and at most."""


@dataclass
class Trials:
    """Of what doesn't pay, a trial now and then, and the less often the longer it hasn't paid."""

    patience: int = PATIENCE[0]
    waited: int = 0

    def ask(self, pays: bool) -> bool:
        """Whether to do it this time."""
        if pays:
            self.patience, self.waited = PATIENCE[0], 0
            return True
        self.waited += 1
        if self.waited < self.patience:
            return False
        self.patience, self.waited = min(2 * self.patience, PATIENCE[-1]), 0
        return True


@dataclass
class Experience:
    """Of one pair of models and one way to choose tokens. Answers in flight share it: a lost update costs nothing."""

    acceptance: Acceptance = field(default_factory=Acceptance)
    pace: Average = field(default_factory=lambda: Average(RECENT))
    """Tokens a second, by what rounds should cost: a clock would be disturbed by all else that runs."""
    trials: Trials = field(default_factory=Trials)
