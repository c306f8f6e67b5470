"""Purse: what guessing may cost, whatever anybody believes."""

from __future__ import annotations

from dataclasses import dataclass

from specvlm.planning.average import Number

SHARE = 0.01
"""Of the time of plain decoding: what may be lost in the long run."""


@dataclass
class Purse:
    """Time that may still be lost against plain decoding, counted in its forwards.

    What guessing wins fills it, and what it loses empties it. Where nothing is won a share of the time is added, so
    that a draft that has been given up is tried again. However hostile a draft may be, `n` tokens never take longer
    than `(1 + SHARE) * n` forwards, what was in the purse, and what the last attempt overdrew.
    """

    left: float
    saved: float
    """Up to so much the share fills it."""
    most: float
    """Up to so much winnings fill it."""

    def allows(self, price: float) -> bool:
        """Whether an attempt that may lose `price` can be afforded, or as much was saved for it as ever is."""
        return self.left >= min(price, self.saved)

    def settle(self, num_tokens: Number, forwards: Number) -> None:
        """`num_tokens` were emitted in the time of so many plain forwards."""
        won = num_tokens - forwards
        if won > 0:
            self.left = max(self.left, min(self.most, self.left + won))
        else:
            self.left = max(self.left + won, min(self.saved, self.left + won + SHARE * num_tokens))
