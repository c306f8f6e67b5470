"""Questions that are none, that don't end, or that are as long as a book, by every way in which one is asked."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

from fuzz.case import Case, Expected, nothing
from fuzz.material import ANSWERING, FILM, QUESTION, answer, film, put_film

MB = 10**6

REFUSED = {
    "empty": "",
    "blank": " \t\n ",
    "half a letter": "What is caf\udce9?",
    "a place-holder": "What is <video>?",
    "another place-holder": "What is <image>?",
    "1 MB of a letter": "a" * MB,
    "1 MB of words": "what is this " * (MB // 13),
    "1 MB of Chinese": "片" * (MB // 3),
    "1 MB of emoji": "🎞" * (MB // 4),
    "1 MB of lines": "a\n" * (MB // 2),
    "30 MB": "word " * (6 * MB),
    "deep JSON": "[" * 100_000,
    "a long number": "9" * MB,
}
ANSWERED = {
    "a letter": "?",
    "emoji": "🎞️🎞️",
    "right to left": "مرحبا ما هذا",
    "control characters": "What \x1b[31mis\x07 this?",
    "an end token": "<|im_end|>",
    "a template": "{{ messages }}{% for x in y %}",
    "a format": "%s %n {0} {}",
    "an option": "-- --json",
    "lines": "a\n" * 50,
    "combining marks": "e" + "\u0301" * 200,
    "zero width": "wh\u200bat\ufeff is\u2060 it",
}

TALKS: dict[str, bytes] = {
    "nothing": b"",
    "empty lines": b"\n" * 10_000,
    "a NUL": b"What is\x00this?\n",
    "no UTF-8": b"caf\xe9\n",
    "UTF-16": f"{QUESTION}\n".encode("utf-16"),
    "a command that there isn't": b"/nonsense\n",
    "strokes": b"/\n//\n/ /\n",
    "a video that isn't there": b"/video nothing.mp4\n",
    "a video without a name": b"/video\n",
    "standard input as a video": b"/video -\n",
    "a device as a video": b"/video /dev/zero\n",
    "the kernel's memory": b"/video /proc/self/mem\n",
    "figures before an answer": b"/stats\n",
    "1 MB without an end": b"a" * MB,
    "1 MB of words": b"what is this " * (MB // 13) + b"\n",
    "100 MB without an end": b"a" * (100 * MB),
    "deep JSON": b"[" * 100_000 + b"\n",
    "an old Mac's lines": f"{QUESTION}\r".encode(),
    "a DOS file's end": f"{QUESTION}\r\n\x1a".encode(),
}


def cases(seed: int) -> Iterator[Case]:
    """All of the above, and then without end what the dice make of letters."""
    for name, question in REFUSED.items():
        yield _asked(name, question, "refused")
    for name, question in ANSWERED.items():
        yield _asked(name, question, "answers", None if question.startswith("-") else answer(question))
    yield from _without_end()
    for name, spoken in TALKS.items():
        yield Case(_slug("chat", name), ["chat", FILM, *ANSWERING], _talk(spoken), "either")
    yield Case("chat-right", ["chat", FILM, *ANSWERING], _talk(f"\ufeff{QUESTION}\n".encode()[3:]), "answers", answer())
    yield from _ways()
    yield from _drawn(seed)


def _asked(name: str, question: str, expect: Expected, right: str | None = None) -> Case:
    return Case(_slug("asked", name), ["generate", *ANSWERING, "--", FILM, question], put_film, expect, right)


def _without_end() -> Iterator[Case]:
    """Standard input that never ends, for all that read it."""
    for device in ("zero", "urandom"):
        link = _linked(f"/dev/{device}")
        yield Case(f"endless-{device}-video", ["generate", "-", QUESTION, *ANSWERING], link, "refused")
        yield Case(f"endless-{device}-compared", ["compare", "-", QUESTION, *ANSWERING], link, "refused")
        yield Case(f"endless-{device}-explained", ["explain", "-", QUESTION, *ANSWERING], link, "refused")
        yield Case(f"endless-{device}-chat", ["chat", FILM, *ANSWERING], link, "refused")


def _ways() -> Iterator[Case]:
    """Several questions, none, and files in the place of one."""
    twice = ["generate", FILM, QUESTION, QUESTION, *ANSWERING]
    yield Case("twice", twice, put_film, "answers", f"> {QUESTION}\n{answer()}")
    yield Case("twice-in-a-chat", [*twice, "--chat"], put_film, "answers", answer())
    yield Case("one-of-two-empty", ["generate", FILM, QUESTION, " ", *ANSWERING], put_film, "refused")
    yield Case("one-of-two-of-1-MB", ["generate", FILM, QUESTION, "a " * MB, *ANSWERING], put_film, "refused")
    yield Case("none", ["generate", FILM, *ANSWERING], put_film, "refused")
    yield Case("text-alone", ["generate", "--text-only", "?", *ANSWERING], nothing, "answers")
    yield Case("text-alone-1-MB", ["generate", "--text-only", "a " * MB, *ANSWERING], nothing, "refused")
    yield Case("no-video", ["generate", "nothing.mp4", QUESTION, *ANSWERING], nothing, "refused")
    yield Case("video-on-stdin", ["generate", "-", QUESTION, *ANSWERING], _stdin(film()), "answers", answer())
    yield Case("nothing-on-stdin", ["generate", "-", QUESTION, *ANSWERING], nothing, "refused")
    yield Case("text-on-stdin", ["generate", "-", QUESTION, *ANSWERING], _stdin(b"What is this?\n" * 999), "refused")
    for command in ("generate", "compare", "explain"):
        long = [command, FILM, QUESTION, *ANSWERING, "--system", "be brief " * MB]
        yield Case(f"{command}-system-of-9-MB", long, put_film, "refused")
    for command in ("compare", "explain"):
        yield Case(f"{command}-1-MB", [command, FILM, "a " * MB, *ANSWERING], put_film, "refused")
        yield Case(f"{command}-empty", [command, FILM, "", *ANSWERING], put_film, "refused")


LETTERS = (
    "a",
    "片",
    "🎞",
    "\u0301",
    "\u202e",
    "\ufeff",
    "<",
    "|",
    ">",
    "{",
    "%",
    "\\",
    "'",
    '"',
    "\n",
    " ",
    "\x7f",
    "\x1b",
    "ß",
    "\u2028",
)
PARTS = (
    "<|im_start|>",
    "<|im_end|>",
    "system",
    "assistant",
    "\nuser\n",
    "<video",
    "image>",
    "{{",
    "{%",
    "None",
    "/new",
    "-",
)


def _drawn(seed: int) -> Iterator[Case]:
    """Questions of drawn letters and of parts of a template. Nobody knows their answers, but there is one."""
    dice = random.Random(seed)
    number = 0
    while True:
        number += 1
        drawn = "".join(dice.choice(LETTERS + PARTS) for _ in range(dice.randrange(1, 60)))
        yield Case(f"drawn-{number:03}", ["generate", *ANSWERING, "--", FILM, drawn], put_film, "either")


def _talk(spoken: bytes) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        put_film(folder)
        (folder / "stdin").write_bytes(spoken)

    return make


def _stdin(content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / "stdin").write_bytes(content) and None


def _linked(device: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        put_film(folder)
        (folder / "stdin").symlink_to(device)

    return make


def _slug(*words: str) -> str:
    return "-".join(words).replace(" ", "-").replace("'", "")
