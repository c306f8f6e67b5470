"""The errors that a caller can act on. Each message names the value that was wrong and what would be right.

The library raises them, the command line turns them into one line and exit code 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, takewhile


class SpecVLMError(ValueError):
    """Base of every error that bad input can cause."""


class OptionError(SpecVLMError):
    """An option is outside its range, unknown, or contradicts another one."""


class VideoError(SpecVLMError):
    """A video can't be read, or holds nothing to look at."""


class ModelError(SpecVLMError):
    """A checkpoint can't be loaded, isn't supported, or doesn't fit its partner."""


class LengthWarning(UserWarning):
    """A prompt is longer than what its model was made for: the answer is stock generate's, and may be poor."""


class OptionWarning(UserWarning):
    """An option was given that does nothing in this setting: the answer is as if it was left out."""


class PocketWarning(UserWarning):
    """The embedded pocket pair, a toy, is asked about a video that isn't of its little world."""


def brief(text: object, limit: int = 200) -> str:
    """What a message quotes of a path, a value or a library's reason: `text` on one line of `limit` characters at most.

    White space is folded, and what can't be printed is escaped. A line that is short enough is kept whole. Of a longer
    one the middle is left out, between two words; a word too long for that keeps its head and its tail, where a path
    has its folder and its name. `limit` is at least 20.
    """
    line = " ".join(str(text).split())
    line = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in line)
    if len(line) <= limit:
        return line
    words = line.split(" ")
    longest = limit if len(words) == 1 else limit // 2
    words = [_head_and_tail(word, longest) for word in words]
    if len(shorter := " ".join(words)) <= limit:
        return shorter
    room = limit - len(" ... ")
    head = _fitting(words, room * 2 // 3)
    tail = _fitting(words[::-1], room - len(" ".join(head)))[::-1]
    return " ".join([*head, "...", *tail])


def _head_and_tail(word: str, limit: int) -> str:
    if len(word) <= limit:
        return word
    tail = (limit - len("...")) // 2
    return f"{word[: limit - len('...') - tail]}...{word[-tail:]}"


def _fitting(words: Sequence[str], limit: int) -> list[str]:
    """As many of the first words as make a line of `limit` characters."""
    ends = accumulate(len(word) + 1 for word in words)
    return [word for word, _ in takewhile(lambda pair: pair[1] - 1 <= limit, zip(words, ends, strict=True))]
