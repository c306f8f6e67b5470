"""Damaged runs: folders of `specvlm eval` and `sweep` whose config or records were edited, cut, moved or replaced."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from fuzz.case import Case, Expected
from fuzz.material import WRONG_ANYWHERE

KEPT = Path(__file__).parents[2] / "evals" / "kept_runs"
"""Runs of three answers to one question, as a build wrote them."""

WRONG: dict[str, Any] = WRONG_ANYWHERE | {
    "huge": 10**400,
    "big": 1e308,
    "nulls": [None, None],
    "deep": json.loads("[" * 400 + "]" * 400),
}

CONTENTS: dict[str, bytes] = {
    "empty": b"",
    "null": b"null",
    "array": b"[]",
    "object": b"{}",
    "checkpoint": b'{"model_type": "qwen2_vl"}',
    "half": b'{"asked": {"format": 1}, "sessions": []}',
    "no-utf8": b"\xff\xfe\x00",
    "deep": b"[" * 100_000,
    "nul": b"\x00" * 4096,
    "binary": bytes(range(256)) * 40,
}

COMMANDS: dict[str, list[str]] = {
    "report": ["report", "run", "--html", "page.html"],
    "json": ["report", "run", "--json"],
    "paper": ["convert", "run", "--to", "paper"],
    "spec-bench": ["convert", "run", "--to", "spec-bench"],
}


def cases(seed: int) -> Iterator[Case]:
    """In an order that is drawn. What is sound beside the damage has to be read: a record spoils nothing but itself."""
    dice = random.Random(seed)
    found = [*_records(dice), *_configs(dice), *_files(dice)]
    dice.shuffle(found)
    return iter(found)


def _records(dice: random.Random) -> Iterator[Case]:
    for kept in ("eval", "sweep"):
        lines = (KEPT / kept / "results.jsonl").read_text().splitlines()
        number = dice.randrange(len(lines))
        for path in _paths(json.loads(lines[number])):
            for kind in dice.sample([*WRONG, "gone"], 2):
                name = f"results:{number}:{'.'.join(map(str, path))}={kind}"
                yield _case(kept, name, partial(_spoil, "results.jsonl", number, path, kind), dice, "either")
        for kind, content in CONTENTS.items():
            where = dice.randrange(4)
            change = partial(_insert, content.replace(b"\n", b" "), where)
            # Whatever stands between three answers, they are there.
            yield _case(kept, f"results:line-{where}={kind}", change, dice, "answers")
        for number in range(12):
            yield _case(kept, f"results:flip-{number}", partial(_flip, dice.randrange(10**6)), dice, "either")


def _configs(dice: random.Random) -> Iterator[Case]:
    for kept in ("eval", "sweep"):
        for path in _paths(json.loads((KEPT / kept / "config.json").read_text()), depth=6):
            for kind in dice.sample([*WRONG, "gone"], 2):
                name = f"config:{'.'.join(map(str, path))}={kind}"
                yield _case(kept, name, partial(_spoil, "config.json", None, path, kind), dice, "either")


def _files(dice: random.Random) -> Iterator[Case]:
    for kept in ("eval", "sweep"):
        for kind, content in CONTENTS.items():
            yield _case(kept, f"config:={kind}", partial(_put, "config.json", content), dice, "refused")
            yield _case(kept, f"results:={kind}", partial(_put, "results.jsonl", content), dice, "either")
        for file in ("config.json", "results.jsonl"):
            expect: Expected = "refused" if file == "config.json" else "either"
            yield _case(kept, f"{file}:=gone", partial(_replace, file, "gone"), dice, expect)
            yield _case(kept, f"{file}:=folder", partial(_replace, file, "folder"), dice, "refused")
            yield _case(kept, f"{file}:=dangling", partial(_replace, file, "link"), dice, expect)


def _case(kept: str, name: str, spoil: Callable[[Path], None], dice: random.Random, expect: Expected) -> Case:
    command = dice.choice(sorted(COMMANDS))

    def make(folder: Path) -> None:
        shutil.copytree(KEPT / kept, folder / "run")
        spoil(folder / "run")

    return Case(f"{kept}/{command}/{name}", COMMANDS[command], make, expect)


def _paths(value: Any, depth: int = 3, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    if depth > 0 and isinstance(value, dict):
        for key, item in value.items():
            yield from _paths(item, depth - 1, (*path, key))
    if depth > 0 and isinstance(value, list) and value:
        yield from _paths(value[0], depth - 1, (*path, 0))


def _spoil(file: str, number: int | None, path: tuple[Any, ...], kind: str, run: Path) -> None:
    """In a file that is one object, or in the object of one of its lines."""
    lines = (run / file).read_text().splitlines(keepends=True) if number is not None else [(run / file).read_text()]
    content = json.loads(lines[number or 0])
    place = content
    for key in path[:-1]:
        place = place[key]
    if kind == "gone":
        del place[path[-1]]
    else:
        place[path[-1]] = WRONG[kind]
    lines[number or 0] = json.dumps(content) + "\n"
    (run / file).write_text("".join(lines))


def _insert(content: bytes, where: int, run: Path) -> None:
    lines = (run / "results.jsonl").read_bytes().splitlines(keepends=True)
    (run / "results.jsonl").write_bytes(b"".join([*lines[:where], content + b"\n", *lines[where:]]))


def _flip(place: int, run: Path) -> None:
    content = bytearray((run / "results.jsonl").read_bytes())
    content[place % len(content)] ^= 1 << (place % 8)
    (run / "results.jsonl").write_bytes(bytes(content))


def _put(file: str, content: bytes, run: Path) -> None:
    (run / file).write_bytes(content)


def _replace(file: str, by: str, run: Path) -> None:
    (run / file).unlink()
    if by == "folder":
        (run / file).mkdir()
    if by == "link":
        (run / file).symlink_to("nowhere")
