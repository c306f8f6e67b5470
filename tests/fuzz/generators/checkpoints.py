"""Damaged checkpoints: the embedded pair's files with a wrong value, a wrong size, a piece gone, or something else."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fuzz.case import Case
from fuzz.material import WRONG_ANYWHERE
from specvlm import pocket

FOLDER, WEIGHTS, TEMPLATE = "model", "model.safetensors", "chat_template.jinja"
HUGE = 10**12

WRONG: dict[str, Any] = WRONG_ANYWHERE | {
    "huge": HUGE,
    "beyond": 10**30,
    "nulls": [None, None, None],
    "words": {"a": ["word"]},
}
"""What no field should hold, or few."""

TEMPLATES = {
    "open": "{% for message in messages %}",
    "unknown-tag": "{% nonsense %}",
    "unknown-name": "{{ nothing.at.all }}",
    "unknown-filter": "{{ messages | nonsense }}",
    "raises": "{{ raise_exception('not for you') }}",
    "divides": "{{ 1 // 0 }}",
    "types": "{{ 'a' + 1 }}",
    "index": "{{ messages[99]['content'] }}",
    "recursion": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "unsafe": "{{ ''.__class__.__mro__ }}",
    "empty": "",
    "silent": "hello",
    "many-videos": "{{ '<video>' * 5 }}",
    "bytes": b"\xff\xfe{{ messages }}",
}

STRAYS = (
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.json",
    "model.safetensors.index.json",
    "adapter_config.json",
    "generation_config.json",
    "vocab.json",
    "merges.txt",
)
"""Files that a checkpoint may have beside the embedded pair's own."""

FILES: dict[str, bytes] = {
    "empty": b"",
    "null": b"null",
    "array": b"[1, 2]",
    "word": b'"word"',
    "number": b"7",
    "object": b"{}",
    "rubbish": b'{"a": {"b": [1, null, "x"]}, "size": "big"}',
    "cut": b'{"model_type": "llava_onev',
    "no-utf8": b"\xff\xfe\x00\x01",
    "deep": b"[" * 100_000,
    "deep-object": b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
}

ARGV = ["--num-frames", "2", "--max-new-tokens", "3", "--device", "cpu"]


def cases(seed: int) -> Iterator[Case]:
    """In an order that is drawn, so that the first hundred are of every sort."""
    dice = random.Random(seed)
    found = [*_fields(dice), *_whole_files(), *_templates(), *_weights(dice)]
    dice.shuffle(found)
    return iter(found)


def _fields(dice: random.Random, each: int = 3) -> Iterator[Case]:
    """Every field of every file, with some wrong values, or gone."""
    for family in pocket.FAMILIES:
        for file in ("config.json", "generation_config.json", "processor_config.json", "tokenizer_config.json"):
            content = json.loads((pocket.path(family) / file).read_text())
            for path in _paths(content):
                for kind in dice.sample([*WRONG, "gone"], each):
                    yield _case(family, f"{file}:{'.'.join(map(str, path))}={kind}", partial(_spoil, file, path, kind))
        content = json.loads((pocket.path(family) / "tokenizer.json").read_text())
        for path in _paths(content, depth=3):
            kind = dice.choice([*WRONG, "gone"])
            name = f"tokenizer.json:{'.'.join(map(str, path))}={kind}"
            if path[0] != "model" or len(path) < 3:  # a vocabulary is one field
                yield _case(family, name, partial(_spoil, "tokenizer.json", path, kind))


def _whole_files() -> Iterator[Case]:
    family = pocket.FAMILIES[0]
    own = sorted(file.name for file in pocket.path(family).iterdir() if file.suffix == ".json")
    for file in [*own, TEMPLATE, WEIGHTS, *STRAYS]:
        for kind, content in FILES.items():
            yield _case(family, f"{file}:={kind}", partial(_put, file, content))
        yield _case(family, f"{file}:=folder", partial(_folder, file))
        yield _case(family, f"{file}:=dangling", partial(_link, file, "nowhere"))
        yield _case(family, f"{file}:=loop", partial(_link, file, file))
        if file not in STRAYS:
            yield _case(family, f"{file}:=gone", partial(_gone, file))


def _templates() -> Iterator[Case]:
    for family in pocket.FAMILIES:
        for kind, content in TEMPLATES.items():
            written = content if isinstance(content, bytes) else content.encode()
            yield _case(family, f"{TEMPLATE}:={kind}", partial(_put, TEMPLATE, written))


def _weights(dice: random.Random) -> Iterator[Case]:
    family = pocket.FAMILIES[0]
    content = (pocket.path(family) / WEIGHTS).read_bytes()
    for number in range(8):
        yield _case(family, f"{WEIGHTS}:cut-{number}", partial(_put, WEIGHTS, content[: dice.randrange(len(content))]))
    for header in (HUGE, 2**63, 10, len(content)):
        damaged = header.to_bytes(8, "little") + content[8:]
        yield _case(family, f"{WEIGHTS}:header-{header}", partial(_put, WEIGHTS, damaged))


def _case(family: str, name: str, spoil: Callable[[Path], None]) -> Case:
    def make(folder: Path) -> None:
        (folder / "film.mp4").write_bytes(film())
        model = folder / FOLDER
        model.mkdir()
        for file in pocket.path(family).iterdir():
            if file.name == WEIGHTS:
                (model / WEIGHTS).symlink_to(file)
            else:
                shutil.copyfile(file, model / file.name)
        spoil(model)

    return Case(f"{family}/{name}", ["generate", "film.mp4", "what?", "--target", FOLDER, *ARGV], make, "either")


def _paths(value: Any, depth: int = 4, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    if depth > 0 and isinstance(value, dict):
        for key, item in value.items():
            yield from _paths(item, depth - 1, (*path, key))
    if depth > 0 and isinstance(value, list) and value:
        yield from _paths(value[0], depth - 1, (*path, 0))


def _spoil(file: str, path: tuple[Any, ...], kind: str, model: Path) -> None:
    content = json.loads((model / file).read_text())
    place = content
    for key in path[:-1]:
        place = place[key]
    if kind == "gone":
        del place[path[-1]]
    else:
        place[path[-1]] = WRONG[kind]
    (model / file).write_text(json.dumps(content))


def _put(file: str, content: bytes, model: Path) -> None:
    (model / file).unlink(missing_ok=True)
    (model / file).write_bytes(content)


def _gone(file: str, model: Path) -> None:
    (model / file).unlink()


def _folder(file: str, model: Path) -> None:
    (model / file).unlink(missing_ok=True)
    (model / file).mkdir()


def _link(file: str, to: str, model: Path) -> None:
    (model / file).unlink(missing_ok=True)
    (model / file).symlink_to(to)


@cache
def film() -> bytes:
    """A film that answers in no time."""
    with TemporaryDirectory() as folder:
        return pocket.demo_video(Path(folder) / "film.mp4").read_bytes()
