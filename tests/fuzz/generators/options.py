"""Every option of every command, with values out of range, without sense, empty, huge, and of other alphabets."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from fuzz.case import Case, Expected
from fuzz.material import ANSWERING, FILM, QUESTION, answer, put_film
from specvlm.cli import app

HUGE = "99999999999999999999"

NUMBERS = ("-1", "0", "1", "2", "3", "1e9", HUGE, f"-{HUGE}", "1.5", "0x10", "1_0", "٣", "2147483648", "100000")
FRACTIONS = ("nan", "inf", "-inf", "1e400", "-0.0", "1e-320", "0.5", "1", "-1", "0", "0,5", ".5.", "½", HUGE)
TEXTS = (
    *("", " ", "a" * 100_000, "🎞️", "../..", "-", "--", "caf\udce9", "%s%n", "{0}", "[", "[[0]", "(", ",", ",,", "a,b"),
    *("\n", "\u202etxt.exe", "no such thing", "/dev/null", "/proc/self/mem", "~nobody/x", "1", "\x1b[31m", "cuda:99"),
)
WRONG = (*TEXTS[:5], "none", "True", "0", "AUTO", "auto ", "\t")
"""For what has a few names as values."""

TREES = (
    *("dynamic", "paper", "chain", "[]", "[[0]]", "[[0], [1], [0, 0]]", "[[5]]", "[[-1]]", "[[0], [0]]", "[[1e9]]"),
    *("[[0, 0, 0]]", '[["a"]]', "[0]", "[{}]", "[[null]]", f"[[{HUGE}]]", "[" * 100_000, "{}", "[[0.5]]", "[[true]]"),
)
PRUNERS = (
    *("frames", "uniform", "random", "none", "window", "diverse", "nonsense", "frames()", "frames(", "frames(a=1)"),
    *("random(seed=-1)", "random(seed=1e400)", f"random(seed={HUGE})", "window(width=0)", "__import__('os')"),
    *("frames(frames(frames()))", "uniform(x=[1])", "guided_focus(temperature=nan)", "similarity(size=-3)"),
)
ARMS = (
    "",
    ",",
    "ar",
    "ar,ar",
    "loop",
    "nonsense",
    "specvlm@2",
    "specvlm@nan",
    "specvlm@",
    "ar@0.5",
    "@",
    "chain,",
    "ar;sd",
)
LISTS = ("", ",", "0", "-1", "nan", "0.5,", "1,2,x", HUGE, "0.5;0.9", "1e400", "٣")
BY_NAME = {"tree": TREES, "pruner": PRUNERS, "arms": ARMS, "pruners": (*PRUNERS, "frames,nonsense"), "trees": TREES[:8]}
BY_NAME |= dict.fromkeys(("ratios", "video_tokens", "new_tokens", "cached", "frames"), LISTS)

SAME = frozenset(
    [
        "video_backend",
        "pruner",
        "pruning_ratio",
        "positions",
        "vision",
        "prune_images",
        "self_scope",
        "tree",
        "depth",
        "num_nodes",
        "width",
        "rounds",
        "strict",
        "prefill_chunk",
        "threads",
        "seed",
        "stats",
        "compile",
    ]
)
"""Options that change nothing about a greedy answer."""


@dataclass(frozen=True)
class Command:
    """A command line that answers as it is, to which an option is added. `right` is in what it says then."""

    argv: tuple[str, ...]
    make: Callable[[Path], None] = put_film
    right: bool = False
    refuses: bool = False
    """Whether it would go on for ever, or for minutes, so that only what has to be refused is tried."""


def _talk(folder: Path) -> None:
    put_film(folder)
    (folder / "stdin").write_text(f"{QUESTION}\n")


def _data(folder: Path) -> None:
    (folder / "data").mkdir()
    put_film(folder / "data")


OF_DATA = ("--task", "folder", "--data", "data", *ANSWERING)
COMMANDS = {
    "generate": Command((FILM, QUESTION, *ANSWERING), right=True),
    "chat": Command((FILM, *ANSWERING), _talk, right=True),
    "compare": Command((FILM, QUESTION, "--arms", "chain", *ANSWERING)),
    "explain": Command((FILM, QUESTION, *ANSWERING), right=True),
    "eval": Command(("--out", "run", "--arms", "chain", *OF_DATA), _data),
    "sweep": Command(("--out", "run", "--pruners", "frames", "--ratios", "0.5", *OF_DATA), _data),
    "pruners": Command(()),
    "report": Command(("run",), refuses=True),
    "convert": Command(("run", "--to", "paper"), refuses=True),
    "plan": Command(("--predict",)),
    "demo": Command(("--repeats", "1"), refuses=True),
    "bench": Command(("--new-tokens", "8", "--repeats", "1"), refuses=True),
    "serve": Command(("pocket", "--port", "0"), refuses=True),
}

NEVER: dict[Any, tuple[str, ...]] = {
    int: ("-1", f"-{HUGE}", "1.5", "0x10", "", "x"),
    float: ("-1", "nan", "-inf", "", "x", "0,5"),
    Literal: ("", "no such thing", "🎞️", " "),
}
"""Values that no number of ours and no list of names has, by the type of an option."""


def cases(seed: int) -> Iterator[Case]:
    """Without end: every option in turn, and values of it as the dice have it."""
    dice = random.Random(seed)
    options, number = _options(), 0
    while True:
        dice.shuffle(options)
        for option in options:
            if (case := _case(option, dice, number)) is not None:
                number += 1
                yield case


@dataclass(frozen=True)
class Option:
    """One option of a command; `kind` is `int`, `float`, `str`, or `Literal` for one that has a few names as values."""

    command: str
    name: str
    kind: Any

    @property
    def flag(self) -> str:
        return f"--{self.name.replace('_', '-')}"


def _options() -> list[Option]:
    """All that take a value."""
    return [
        Option(command, name, kind)
        for command, of in _commands().items()
        for name, parameter in inspect.signature(of, eval_str=True).parameters.items()
        if type(get_args(parameter.annotation)[1]).__name__ == "OptionInfo"
        and (kind := _kind(get_args(parameter.annotation)[0])) is not bool
    ]


def _commands() -> dict[str, Callable[..., None]]:
    found = {each.name or each.callback.__name__: each.callback for each in app.registered_commands if each.callback}
    return dict(sorted(found.items()))


def _kind(hint: Any) -> Any:
    """A list is given as what it is of, and a path as a text."""
    parts = (
        [hint] if get_origin(hint) is Literal else [each for each in get_args(hint) if each is not NoneType] or [hint]
    )
    kind = get_origin(parts[0]) or parts[0]
    return kind if kind in (int, float, bool, Literal) else str


def _case(option: Option, dice: random.Random, number: int) -> Case | None:
    base = COMMANDS[option.command]
    expect: Expected = "either"
    if base.refuses:
        if option.kind not in NEVER or option.name == "order_seed":
            return None
        value, expect = dice.choice(NEVER[option.kind]), "refused"
    else:
        value = dice.choice(_values(option))
    right = answer() if base.right and option.name in SAME else None
    name = f"{number:04}-{option.command}-{option.name}"
    return Case(name, [option.command, *base.argv, f"{option.flag}={value}"], base.make, expect, right)


def _values(option: Option) -> tuple[str, ...]:
    if option.name in BY_NAME:
        return BY_NAME[option.name]
    return {int: (*NUMBERS, "", "x"), float: (*FRACTIONS, "", "x"), Literal: WRONG, str: TEXTS}[option.kind]
