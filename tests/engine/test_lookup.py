"""Lookup: the index finds what a search through the whole text would find."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from specvlm.engine.lookup import LONGEST, SHORTEST, Lookup


def searched(text: list[int], most: int) -> tuple[list[int], int]:
    """The same by looking everywhere, from the end."""
    for length in range(min(LONGEST, len(text)), SHORTEST - 1, -1):
        for end in range(len(text) - 1, length - 1, -1):
            if text[end - length : end] == text[-length:]:
                guess = list(text)
                while len(guess) < len(text) + most:
                    guess.append(guess[end + len(guess) - len(text)])
                return guess[len(text) :], length
    return [], 0


@given(st.lists(st.lists(st.integers(0, 3), max_size=8), max_size=8), st.integers(0, 12))
def test_it_finds_what_a_search_finds_however_the_text_comes(pieces, most):
    lookup, text = Lookup(), []
    for piece in pieces:
        lookup.extend(piece)
        text += piece
        assert len(lookup) == len(text)
        assert lookup.guess(most) == searched(text, most)


def test_the_longest_ending_wins_and_of_those_the_latest():
    text = [1, 2, 3, 4, 7, 7, 3, 4, 8, 8, 3, 4, 9, 5, 2, 3, 4]
    assert Lookup(text).guess(2) == ([7, 7], 3)
    assert Lookup([*text[:14], 6, 3, 4]).guess(2) == ([9, 5], 2)


def test_a_text_that_is_new_gives_no_guess():
    assert Lookup(range(50)).guess(5) == ([], 0)
    assert Lookup([1, 2]).guess(5) == ([], 0)
    assert Lookup().guess(5) == ([], 0)


def test_what_repeats_itself_goes_on_repeating_itself():
    assert Lookup([5, 1, 2, 1, 2]).guess(5) == ([1, 2, 1, 2, 1], 2)
    assert Lookup([3, 3, 3]).guess(4) == ([3, 3, 3, 3], 2)
