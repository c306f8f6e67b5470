"""Lookup: what followed the last time that the text went like this. Guesses that cost nothing, where a text repeats.

Prompt lookup decoding (Saxena, 2023), over prompt and answer, with an index that grows as the answer does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

LONGEST = 4
"""Tokens of the longest ending that is looked up; longer ones are hardly more certain."""

SHORTEST = 2


@final
class Lookup:
    """The endings of a text that came before in it, and what followed them."""

    def __init__(self, text: Iterable[int] = ()) -> None:
        self._text: list[int] = []
        self._ends: dict[tuple[int, ...], int] = {}
        """By n-gram: where its last occurrence ended, that at the very end of the text left out."""
        self.extend(text)

    def __len__(self) -> int:
        return len(self._text)

    def extend(self, tokens: Iterable[int]) -> None:
        """The text goes on."""
        for token in tokens:
            for length in range(SHORTEST, min(LONGEST, len(self._text)) + 1):
                self._ends[tuple(self._text[-length:])] = len(self._text)
            self._text.append(token)

    def guess(self, most: int) -> tuple[list[int], int]:
        """Up to `most` tokens that followed the longest known ending, and how many tokens that ending has (0: none).

        A text that repeats itself over less than `most` tokens goes on repeating itself in the guess.
        """
        for length in range(min(LONGEST, len(self._text)), SHORTEST - 1, -1):
            end = self._ends.get(tuple(self._text[-length:]))
            if end is not None:
                period = len(self._text) - end
                return [self._text[end + step % period] for step in range(most)], length
        return [], 0
