"""Folders of videos and files of questions, for `specvlm eval`: in loops, without end, and with rows that are none."""

from __future__ import annotations

import json
import os
import random
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fuzz.case import Case, Expected
from fuzz.material import ANSWERING, FILM, film

Make = Callable[[Path], None]
ROW = {"video": FILM, "question": "What is this?"}
ASKED = ["eval", "--out", "run", "--arms", "chain", "--task", "folder", *ANSWERING]
ANSWERED = "Report: run"
"""What the command says at last."""


def cases(seed: int) -> Iterator[Case]:
    """What has a name, and then without end right files with some of their bytes changed."""
    for name, (make, expect) in PLACES.items():
        yield Case(
            name, [*ASKED, "--data", "data"], _with_data(make), expect, ANSWERED if expect == "answers" else None
        )
    for place in (
        "/proc",
        "/proc/self",
        "/dev",
        "/sys/kernel",
        "/dev/null",
        "/etc/hostname",
        "\n",
        "~nobody",
        "data\udce9",
    ):
        yield Case(
            f"data-{place.encode('unicode_escape').decode()}",
            [*ASKED, "--data", place],
            _with_data(lambda _: None),
            "refused",
        )
    for name, (row, expect) in ROWS.items():
        yield Case(f"row-{name}", [*ASKED, "--data", "data"], _rows(row), expect)
        beside = "answers" if expect == "refused" else expect  # one that is wrong spoils no other
        yield Case(f"row-{name}-beside", [*ASKED, "--data", "data"], _rows(row, ROW), beside)
    for name, (content, expect) in FILES.items():
        yield Case(
            f"file-{name.replace(' ', '-')}", [*ASKED, "--data", "data"], _file(name.split()[-1], content), expect
        )
    yield from _changed(seed)


def _with_data(make: Make) -> Make:
    def whole(folder: Path) -> None:
        data = folder / "data"
        data.mkdir()
        (data / FILM).write_bytes(film())
        make(data)

    return whole


def _loop(data: Path) -> None:
    (data / "loop").symlink_to(".")


def _two_loops(data: Path) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        (data / name).mkdir()
        (data / name / "to").symlink_to(f"../{other}")


def _net(data: Path) -> None:
    """Folders each of which leads to all: as many ways as there are orders of them."""
    for name in range(12):
        (data / f"{name}").mkdir()
        for other in range(12):
            (data / f"{name}" / f"to{other}").symlink_to(f"../{other}")


def _to_itself(data: Path) -> None:
    (data / "self").symlink_to("self")
    (data / "self.mp4").symlink_to("self.mp4")


def _deep(data: Path) -> None:
    here = os.open(data, os.O_RDONLY)
    for _ in range(1500):  # longer than any path may be
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)


def _wide(data: Path) -> None:
    for number in range(3000):
        (data / f"{number}.txt").touch()


def _listening(data: Path) -> None:
    with socket.socket(socket.AF_UNIX) as ear:
        here = Path.cwd()
        os.chdir(data)
        ear.bind("ear.mp4")
        os.chdir(here)


def _linked(name: str, to: str) -> Make:
    return lambda data: (data / name).symlink_to(to)


def _piped(name: str) -> Make:
    return lambda data: os.mkfifo(data / name)


def _written(name: str, content: bytes) -> Make:
    return lambda data: (data / name).write_bytes(content) and None


def _sparse(name: str) -> Make:
    """64 GB that take no place."""
    return lambda data: (data / name).touch() or os.truncate(data / name, 2**36)


PLACES: dict[str, tuple[Make, Expected]] = {
    "sound": (lambda _: None, "answers"),
    "loop": (_loop, "answers"),
    "two-loops": (_two_loops, "answers"),
    "net": (_net, "either"),
    "link-to-itself": (_to_itself, "answers"),
    "deep": (_deep, "either"),
    "wide": (_wide, "answers"),
    "socket": (_listening, "answers"),
    "link-to-proc": (_linked("proc", "/proc"), "answers"),
    "link-to-sys": (_linked("sys", "/sys"), "answers"),
    "link-to-dev": (_linked("dev", "/dev"), "answers"),
    "link-to-kmsg": (_linked("kernel.mp4", "/proc/kmsg"), "either"),
    "link-to-pagemap": (_linked("pages.mp4", "/proc/self/pagemap"), "either"),
    "link-to-zero": (_linked("zero.mp4", "/dev/zero"), "either"),
    "pipe": (_piped("pipe.mp4"), "either"),
    "broken-link": (_linked("gone.mp4", "nowhere.mp4"), "either"),
    "questions-link-to-zero": (_linked("questions.jsonl", "/dev/zero"), "refused"),
    "questions-link-to-kmsg": (_linked("questions.jsonl", "/proc/kmsg"), "refused"),
    "questions-pipe": (_piped("questions.csv"), "refused"),
    "questions-folder": (lambda data: (data / "questions.json").mkdir(), "refused"),
    "questions-broken-link": (_linked("questions.jsonl", "nowhere"), "either"),
    "questions-sparse-jsonl": (_sparse("questions.jsonl"), "refused"),
    "questions-sparse-json": (_sparse("questions.json"), "refused"),
    "questions-sparse-csv": (_sparse("questions.csv"), "refused"),
    "questions-sparse-parquet": (_sparse("questions.parquet"), "refused"),
    "sparse-video": (_sparse("sparse.mp4"), "either"),
    "sparse-picture": (_sparse("sparse.png"), "answers"),
    "name-of-no-letters": (_written("caf\udce9.mp4", film()), "answers"),
    "name-of-lines": (_written("a\nb\x1b.mp4", film()), "answers"),
    "name-of-255": (_written("a" * 251 + ".mp4", film()), "answers"),
    "empty-video": (_written("empty.mp4", b""), "either"),
}


def _rows(*rows: Any) -> Make:
    return _with_data(_written("questions.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows).encode()))


def _file(name: str, content: bytes) -> Make:
    return _with_data(_written(name, content))


CANDIDATES = [f"option {number}" for number in range(40)]

ROWS: dict[str, tuple[Any, Expected]] = {
    "null": (None, "refused"),
    "list": ([FILM, "?"], "refused"),
    "text": ("?", "refused"),
    "number": (10**400, "refused"),
    "empty": ({}, "refused"),
    "no-video": ({"question": "?"}, "refused"),
    "no-question": ({"video": FILM}, "refused"),
    "video-null": (ROW | {"video": None}, "refused"),
    "video-list": (ROW | {"video": [FILM]}, "refused"),
    "video-empty": (ROW | {"video": ""}, "refused"),
    "video-up": (ROW | {"video": "../../../../etc/passwd"}, "refused"),
    "video-of-the-root": (ROW | {"video": "/etc/passwd"}, "refused"),
    "video-device": (ROW | {"video": "file:///dev/zero"}, "refused"),
    "video-kernel": (ROW | {"video": "file:///proc/kmsg"}, "refused"),
    "video-host": (ROW | {"video": "file://host/film.mp4"}, "refused"),
    "video-web": (ROW | {"video": "https://localhost:1/film.mp4"}, "refused"),
    "video-nul": (ROW | {"video": "film\x00.mp4"}, "refused"),
    "video-long": (ROW | {"video": "a" * 10**6}, "refused"),
    "video-half": (ROW | {"video": "\udce9.mp4"}, "refused"),
    "question-null": (ROW | {"question": None}, "refused"),
    "question-object": (ROW | {"question": {"a": 1}}, "refused"),
    "question-blank": (ROW | {"question": " "}, "refused"),
    "question-number": (ROW | {"question": 5}, "either"),
    "question-half": (ROW | {"question": "\ud800"}, "refused"),
    "question-1-MB": (ROW | {"question": "what " * 200_000}, "refused"),
    "question-place-holder": (ROW | {"question": "<video>"}, "refused"),
    "candidates-40": (ROW | {"candidates": CANDIDATES, "answer": "option 3"}, "refused"),
    "candidates-40-last": (ROW | {"candidates": CANDIDATES, "answer": "option 39"}, "refused"),
    "candidates-26": (ROW | {"candidates": CANDIDATES[:26], "answer": "option 25"}, "answers"),
    "candidates-none": (ROW | {"candidates": []}, "refused"),
    "candidates-number": (ROW | {"candidates": 5}, "refused"),
    "candidates-objects": (ROW | {"candidates": [{}, [], None]}, "either"),
    "candidates-same": (ROW | {"candidates": ["a", "a"], "answer": "a"}, "either"),
    "candidates-1-MB": (ROW | {"candidates": ["a " * 500_000, "b"]}, "refused"),
    "answer-none-of-them": (ROW | {"candidates": ["a", "b"], "answer": "c"}, "refused"),
    "answer-object": (ROW | {"answer": {"a": [1]}}, "refused"),
    "answer-1-MB": (ROW | {"answer": "word " * 200_000}, "either"),
    "answer-nan": (ROW | {"answer": float("nan")}, "either"),
    "more-columns": (ROW | {f"column {number}": number for number in range(5000)}, "answers"),
}

DEEP = b"[" * 100_000
SOUND = json.dumps(ROW).encode()
FILES: dict[str, tuple[bytes, Expected]] = {
    "empty questions.jsonl": (b"", "refused"),
    "blank questions.jsonl": (b"\n \n\t\n", "refused"),
    "deep questions.jsonl": (DEEP, "refused"),
    "deep-beside questions.jsonl": (DEEP + b"\n" + SOUND, "answers"),
    "deep-inside questions.jsonl": (b'{"video": ' + DEEP + b"\n" + SOUND, "answers"),
    "nul questions.jsonl": (b"\x00" * 1000, "refused"),
    "mark questions.jsonl": (b"\xef\xbb\xbf" + SOUND, "answers"),
    "utf16 questions.jsonl": (json.dumps(ROW).encode("utf-16"), "answers"),
    "1-MB-line questions.jsonl": (b'{"video": "' + b"a" * 10**6 + b'"}\n' + SOUND, "answers"),
    "deep questions.json": (DEEP, "refused"),
    "deep-rows questions.json": (DEEP + b"]" * 100_000, "refused"),
    "object questions.json": (SOUND, "refused"),
    "number questions.json": (b"5" * 10_000, "refused"),
    "cut questions.json": (b"[" + SOUND, "refused"),
    "nan questions.json": (b"[NaN]", "refused"),
    "list questions.json": (b"[" + SOUND + b"]", "answers"),
    "empty questions.csv": (b"", "refused"),
    "head questions.csv": (b"video,question\n", "refused"),
    "quote questions.csv": (b'video,question\nfilm.mp4,"what', "answers"),
    "long-cell questions.csv": (b"video,question\nfilm.mp4," + b"a" * 10**6, "refused"),
    "wide questions.csv": (b"," * 10**6, "refused"),
    "ragged questions.csv": (b"video,question\nfilm.mp4,what,is,this\nfilm.mp4\n", "answers"),
    "same-columns questions.csv": (b"video,video,question\nfilm.mp4,x,what\n", "either"),
    "nul questions.csv": (b"video,question\nfilm.mp4,wh\x00at\n", "either"),
    "no-utf8 questions.csv": (b"video,question\nfilm.mp4,caf\xe9\n", "refused"),
    "empty questions.parquet": (b"", "refused"),
    "mark questions.parquet": (b"PAR1PAR1", "refused"),
    "zero questions.parquet": (b"PAR1" + b"\x00" * 1000 + b"PAR1", "refused"),
    "text questions.parquet": (SOUND, "refused"),
}

RIGHT: dict[str, bytes] = {
    "questions.jsonl": b"".join(json.dumps(ROW | {"question": f"What is {n}?"}).encode() + b"\n" for n in range(2)),
    "questions.json": json.dumps([ROW, ROW | {"candidates": ["a", "b"], "answer": "a"}]).encode(),
    "questions.csv": b"video,question,answer,candidates\nfilm.mp4,What is this?,a,a|b\nfilm.mp4,And this?,,\n",
}


def _changed(seed: int) -> Iterator[Case]:
    """Right files of questions, some bytes of which are others, gone, or there twice."""
    dice = random.Random(seed)
    number = 0
    while True:
        number += 1
        name = dice.choice(sorted(RIGHT))
        content = bytearray(RIGHT[name])
        for _ in range(dice.randrange(1, 6)):
            at = dice.randrange(len(content))
            length = dice.randrange(1, 9)
            content[at : at + length] = dice.choice(
                [
                    b"",
                    dice.randbytes(length),
                    bytes(content[at : at + length]) * 2,
                    b'"',
                    b"{[",
                    b"\x00",
                    b",",
                    b"\n",
                    b"1e999",
                ]
            )
        yield Case(f"changed-{number:03}", [*ASKED, "--data", "data"], _file(name, bytes(content)), "either")
