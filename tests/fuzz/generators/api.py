"""What Python hands over: options of wrong types, videos that are none, questions that are no text."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import fields

from fuzz.case import Case, Expected, nothing
from fuzz.generators.options import SAME
from fuzz.material import FILM, QUESTION, answer, put_film
from specvlm import Options

VALUES = (
    *("None", "True", "False", "-1", "0", "1", "2", "10**30", "0.5", "float('nan')", "float('inf')", "1j", "''", "' '"),
    *("'nonsense'", "b'bytes'", "[]", "()", "{}", "[[0]]", "[[0], [0, 0]]", "('a',)", "[None]", "('',)", "object()"),
    *("'a' * 10**6", "'\\ud800'", "range(3)", "lambda: 1", "type", "[[0]] * 10**5", "(('a', 'b'),)", "(('a',),)"),
    *("numpy.float32('nan')", "numpy.int64(3)", "numpy.ones(3)", "torch.ones(3)", "pathlib.Path('nowhere')"),
)
VIDEOS = (
    *("5", "True", "''", "b''", "[]", "{}", "object()", "1.5", "'nowhere.mp4'", "pathlib.Path('.')", "'\\0'", "[None]"),
    *("numpy.zeros((0, 8, 8, 3), 'uint8')", "numpy.zeros((2, 0, 8, 3), 'uint8')", "numpy.zeros((8, 8), 'uint8')"),
    *(
        "numpy.zeros((2, 8, 8, 4), 'uint8')",
        "numpy.full((2, 8, 8, 3), float('nan'))",
        "numpy.zeros((2, 8, 8, 3), 'int64')",
    ),
    *("numpy.zeros((2, 8, 8, 3), complex)", "numpy.array(['a'])", "numpy.zeros((2, 1, 40000, 3), 'uint8')"),
    *("torch.zeros(0)", "torch.zeros(2, 3, 8, 8)", "torch.zeros(2, 8, 8, 3, dtype=torch.bool)", "open('film.mp4')"),
    *("[b'', b'']", "['film.mp4', 5]", "io.BytesIO(b'')", "io.StringIO('')", "'file:///dev/zero'", "'data:video/mp4,'"),
    *(
        "'https://localhost:1/'",
        "'/dev/zero'",
        "'/proc/self/mem'",
        "memoryview(b'abc')",
        "b'abc' * 10**6",
        "(x for x in 'ab')",
    ),
)
QUESTIONS = (
    *("5", "b'what'", "''", "' '", "object()", "{}", "('a', 5)", "['']", "[None]", "'\\ud800'", "'a ' * 10**6", "True"),
    *("['a', 'b ' * 10**6]", "'<video>'", "[['a']]", "1.5", "float('nan')", "'[' * 10**5"),
)
TARGETS = (
    *(
        "5",
        "''",
        "'nowhere'",
        "b'pocket'",
        "{}",
        "object()",
        "'\\0'",
        "'/dev/zero'",
        "pathlib.Path('.')",
        "'pocket-nonsense'",
    ),
    *("torch.nn.Linear(2, 2)", "[]", "'a/b/c'", "'https://localhost:1/'", "'self'", "'a' * 5000", "'/proc/self'"),
)

HEAD = "import io, pathlib, numpy, torch, specvlm\n"
LOAD = "vlm = specvlm.load('pocket', device='cpu')\n"
SMALL = "max_new_tokens=8, plan='fixed'"


def cases(seed: int) -> Iterator[Case]:
    """What has a place in the lists above, and then without end options as the dice have them."""
    for number, video in enumerate(VIDEOS):
        yield _case(f"video-{number}", f"{LOAD}vlm.generate({video}, {QUESTION!r}, {SMALL})")
    for number, question in enumerate(QUESTIONS):
        for way in ("generate", "stream", "autoregressive"):
            asked = f"vlm.{way}({FILM!r}, {question}, max_new_tokens=2)"
            yield _case(
                f"question-{number}-{way}", f"{LOAD}{f'list({asked})' if way == 'stream' else asked}", "refused"
            )
    for number, target in enumerate(TARGETS):
        yield _case(f"target-{number}", f"specvlm.load({target})", "refused")
        if target != "'self'":
            yield _case(f"draft-{number}", f"specvlm.load('pocket', {target})", "refused")
    yield from _drawn(seed)


def _drawn(seed: int) -> Iterator[Case]:
    dice = random.Random(seed)
    names = [field.name for field in fields(Options)]
    number = 0
    while True:
        number += 1
        name, value = dice.choice(names), dice.choice(VALUES)
        right = answer() if name in SAME else None
        asked = f"print(vlm.generate({FILM!r}, {QUESTION!r}, specvlm.Options({name}={value}), max_new_tokens=8).text)"
        yield _case(
            f"option-{number:03}-{name}", f"options = specvlm.Options({name}={value})\n{LOAD}{asked}", "either", right
        )


def _case(name: str, python: str, expect: Expected = "either", right: str | None = None) -> Case:
    return Case(name, [], put_film if FILM in python else nothing, expect, right, f"{HEAD}{python}")
