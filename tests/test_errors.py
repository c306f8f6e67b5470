"""What messages quote: one line, of a length that can be read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specvlm.errors import brief


@pytest.mark.parametrize("text", ["", "a", "no such file", "x" * 200, "word " * 39 + "words"])
def test_what_is_short_is_kept_whole(text: str) -> None:
    assert brief(text) == text


def test_white_space_is_folded_and_what_can_not_be_printed_escaped() -> None:
    assert brief("  one\n\ttwo\u2028three\r\n") == "one two three"
    assert brief("\x1b[31mred\0.mp4") == "\\x1b[31mred\\x00.mp4"
    brief("caf\udce9.mp4").encode()  # a name that isn't UTF-8, as Python hands it out


def test_a_long_reason_is_cut_between_words() -> None:
    words = [f"word{number}" for number in range(1000)]
    line = brief(" ".join(words))
    assert 190 <= len(line) <= 200
    head, tail = line.split(" ... ")
    assert words[: len(head.split())] == head.split()
    assert words[-len(tail.split()) :] == tail.split()
    assert len(head) > len(tail) > 40


def test_of_a_giant_word_head_and_tail_are_kept() -> None:
    line = brief("/data/" + "x" * 5000 + "/clip.mp4")
    assert len(line) == 200
    assert line.startswith("/data/xxx")
    assert line.endswith("xxx/clip.mp4")
    assert "..." in line


def test_the_words_around_a_giant_one_are_kept() -> None:
    line = brief("there is no file " + "x" * 5000 + " here: download it first")
    assert line.startswith("there is no file xxx")
    assert line.endswith("xxx here: download it first")
    assert len(line) <= 200


@given(st.text(max_size=400), st.integers(20, 120))
def test_the_limit_is_kept(text: str, limit: int) -> None:
    line = brief(text, limit)
    assert len(line) <= limit
    assert line.isprintable()
    assert brief(line, limit) == line
