"""The command that repeats a run, told from what the run was asked."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any

from specvlm.answering.options import Options
from specvlm.evals.settings import DEFAULT
from specvlm.names import KEYWORDS

AS_ASKED = {"do_sample": False, "seed": 0}
"""What `Setting` fills in by itself."""
OF_THE_GRID = ("tree", "plan", "num_frames")
"""What a sweep puts in the place of an answer's own options."""
TASK_NAMES = {"name": "task", "subsets": "subset"}
"""What of a task the command line calls otherwise."""
OPTIONS = {keyword: name for name, keyword in KEYWORDS.items()}
"""What of a model the command line calls otherwise."""

Asked = Mapping[str, Any]
Words = Iterator[str]


def command_of(asked: Asked, out: str) -> str:
    """What a shell asks the same with, into a folder `out`. Options that no flat text can carry are left out."""
    swept = [setting["name"] for setting in asked["settings"]] != [DEFAULT]
    words = _sweep(asked["settings"]) if swept else _eval(asked["settings"][0])
    return shlex.join(["specvlm", "sweep" if swept else "eval", *_common(asked), *words, "--out", out])


def _common(asked: Asked) -> Words:
    """Which samples, and which models."""
    for name, value in asked["task"].items():
        yield from _flag(str(TASK_NAMES.get(name, name)), value)
    for name, value in asked["models"].items():
        if isinstance(value, Mapping):  # of the target apart, or of the draft
            role = name.removesuffix("_kwargs")
            for key, each in value.items():
                yield from _flag(f"{role}_{OPTIONS.get(key, key)}", each)
        elif value != "auto":
            yield from _flag(name, value)


def _eval(setting: Asked) -> Words:
    yield from ("--arms", ",".join(setting["arms"]))
    yield from _options(setting["options"])


def _sweep(settings: Iterable[Asked]) -> Words:
    """The axes of the grid, as they follow from its points."""
    points = [(arm, setting["options"]) for setting in settings for arm in setting["arms"]]
    axes: dict[str, list[str]] = {"pruners": [], "ratios": [], "trees": [], "frames": []}
    for arm, options in points:
        axes["trees"].append("auto" if options["plan"] == "auto" else options["tree"])
        if options["num_frames"] is not None:
            axes["frames"].append(str(options["num_frames"]))
        if arm == "specvlm":
            axes["pruners"].append(options["pruner"])
            axes["ratios"].append(str(options["pruning_ratio"]))
    for name, values in axes.items():
        if values:
            yield from (f"--{name}", ",".join(dict.fromkeys(values)))
    yield from _options({name: value for name, value in points[0][1].items() if name not in OF_THE_GRID})


def _options(options: Asked) -> Words:
    """Those that aren't what they are by themselves."""
    usual = Options()
    for field in fields(Options):
        value = options.get(field.name)
        default = AS_ASKED.get(field.name, getattr(usual, field.name))
        if value is not None and value != default:
            yield from _flag(field.name, value)


def _flag(name: str, value: Any) -> Words:
    """An option as a shell writes it, if there is anything to say of it."""
    name = name.replace("_", "-")
    if value is None or value == "":
        return
    if isinstance(value, bool):
        yield f"--{name}" if value else f"--no-{name}"
    elif isinstance(value, (list, tuple)) and name == "tree":
        yield from (f"--{name}", json.dumps(value))
    elif isinstance(value, (list, tuple)):
        for each in value:
            if isinstance(each, str):
                yield from (f"--{name}", each)
    else:
        yield from (f"--{name}", str(value))
