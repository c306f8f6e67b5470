"""The system says no: names too long, links in a circle, a file where a folder should be, homes of nobody, devices."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from fuzz.case import Case, Expected
from fuzz.generators.checkpoints import film
from fuzz.generators.runs import KEPT

LONG = "a" * 300
DEEP = "/".join(["b" * 200] * 30)

NOWHERE = {
    "nobody": "~nobody-of-that-name/x",
    "long": LONG,
    "deep": DEEP,
    "loop": "loop/x",
    "in-a-file": "a-file/x",
    "in-a-device": "/dev/null/x",
    "in-proc": "/proc/x",
    "in-sys": "/sys/x",
    "dangling": "dangling",
    "missing": "no/such/thing",
}
"""Where nothing can be, be it read or written."""

THERE = {"file": "a-file", "folder": "a-folder", "full": "/dev/full", "null": "/dev/null", "empty": ""}
"""Where there is something, of one kind or another."""

WRITTEN: dict[str, list[str]] = {
    "eval": ["eval", "--num-samples", "1", "--max-new-tokens", "2", "--arms", "ar", "--out"],
    "sweep": ["sweep", "--num-samples", "1", "--max-new-tokens", "2", "--pruners", "frames", "--ratios", "9", "--out"],
    "page": ["report", "run", "--html"],
    "convert": ["convert", "run", "--to", "paper", "--out"],
    "explain": ["explain", "film.mp4", "what?", "--max-new-tokens", "2", "--out"],
    "demo": ["demo", "--max-new-tokens", "2", "--keep"],
    "cache": ["generate", "film.mp4", "what?", "--max-new-tokens", "2", "--feature-cache"],
}
"""Commands that end with where they write."""

READ: dict[str, list[str]] = {
    "target": ["generate", "film.mp4", "what?", "--max-new-tokens", "2", "--target"],
    "draft": ["generate", "film.mp4", "what?", "--max-new-tokens", "2", "--draft"],
    "image": ["generate", "film.mp4", "what?", "--max-new-tokens", "2", "--image"],
    "run": ["report"],
    "converted": ["convert", "--to", "paper"],
    "data": ["eval", "--task", "folder", "--out", "new", "--data"],
    "videos": ["eval", "--task", "folder", "--out", "new", "--data", "a-folder", "--videos"],
}
"""Commands that end with what they read."""

ALONE: dict[str, tuple[list[str], Expected]] = {
    "film-is-a-folder": (["generate", "a-folder", "what?"], "refused"),
    "film-is-a-loop": (["generate", "loop", "what?"], "refused"),
    "film-has-a-long-name": (["generate", f"{LONG}.mp4", "what?"], "refused"),
    "film-is-of-nobody": (["generate", "~nobody-of-that-name/film.mp4", "what?"], "refused"),
    "film-is-full": (["generate", "/dev/full", "what?"], "refused"),
}


def cases(seed: int) -> Iterator[Case]:
    """In an order that is drawn."""
    dice = random.Random(seed)
    found: list[Case] = []
    for command, argv in WRITTEN.items():
        for kind, place in NOWHERE.items():
            can_be_made = kind == "dangling" or kind == "missing"
            found.append(_case(f"{command}/{kind}", [*argv, place], "either" if can_be_made else "refused"))
        found += [_case(f"{command}/{kind}", [*argv, place], "either") for kind, place in THERE.items()]
    for command, argv in READ.items():
        found += [_case(f"{command}/{kind}", [*argv, place], "refused") for kind, place in NOWHERE.items()]
        if command != "draft":
            found += [_case(f"{command}/{kind}", [*argv, place], "either") for kind, place in THERE.items()]
    found += [_case(name, argv, expect) for name, (argv, expect) in ALONE.items()]
    dice.shuffle(found)
    return iter(found)


def _case(name: str, argv: list[str], expect: Expected) -> Case:
    return Case(name, argv, _make, expect)


def _make(folder: Path) -> None:
    (folder / "film.mp4").write_bytes(film())
    (folder / "a-file").write_text("years of work")
    (folder / "a-folder").mkdir()
    (folder / "a-folder" / "film.mp4").write_bytes(film())
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("nowhere/at/all")
    (folder / "run").mkdir()
    for file in (KEPT / "eval").iterdir():
        (folder / "run" / file.name).write_bytes(file.read_bytes())
