"""The report of one run or several, as a page of HTML that needs nothing beside it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from specvlm.comparing.headline import Headline, fastest, headline
from specvlm.comparing.words import words
from specvlm.drawing import DARK, LIGHT, Theme
from specvlm.errors import OptionError
from specvlm.evals.reporting import plots
from specvlm.evals.reporting.figures import Arm, figures, notes, share, times
from specvlm.evals.reporting.metrics import answers, latest, metrics_of
from specvlm.evals.reporting.repeating import command_of
from specvlm.evals.run_folder import Run
from specvlm.pages import Picture, render

MAX_SHOWN = 300
"""Samples whose answers are on the page. Those on which arms differ come first; results.jsonl has all."""

SUMMARY: dict[str, Callable[[str, Arm], str]] = {
    "": lambda name, arm: words(name),
    "same as stock": lambda name, arm: (
        "" if arm["identical"] is None else f"{arm['identical']} of {arm['num_answers']}"
    ),
    "decoding": lambda name, arm: times(arm["decode_speedup"]),
    "end to end": lambda name, arm: times(arm["end_to_end_speedup"]),
    "tokens a forward": lambda name, arm: f"{arm['mean_acceptance_length']:.2f}",
}
"""What matters most, a row an arm."""

TELLING = ("ar", "auto", "specvlm", "sd", "")
"""What names of arms begin with, the most telling first."""
MOST_SHOWN = 3


def report_html(runs: Sequence[Run]) -> str:
    """One section a run; of several, first what they differ in and their figures side by side. Errors: OptionError."""
    sections = [_section(run) for run in runs]
    side_by_side = shlex.join(["specvlm", "report", *(run.name for run in runs), "--html", "report.html"])
    command = side_by_side if len(runs) > 1 else sections[0]["command"]
    return render(
        "report.html", command=command, runs=sections, differences=differences(runs), share=share, times=times
    )


def differences(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """What the runs were asked differently: the values, one a run, by the path of what was asked."""
    flat = [dict(_flat(run.config["asked"])) for run in runs]
    names = dict.fromkeys(name for values in flat for name in values)
    rows = {name: [values.get(name) for values in flat] for name in names}
    return {name: values for name, values in rows.items() if any(value != values[0] for value in values)}


def _section(run: Run) -> dict[str, Any]:
    metrics = metrics_of(run)
    records = latest(run.records)
    settings = []
    for setting in run.config["asked"]["settings"]:
        name = setting["name"]
        mine = [record for record in records if record["setting"] == name]
        arms = {arm: found for arm, found in metrics["settings"][name]["arms"].items() if found["num_answers"]}
        by_arm = {arm: answers(mine, arm) for arm in arms}
        settings.append(
            {
                "name": name,
                "options": {key: value for key, value in setting["options"].items() if value not in (None, [], "")},
                "arms": arms,
                "words": {arm: words(arm) for arm in arms},
                "headline": _headline(arms),
                "summary": [[show(arm, found) for show in SUMMARY.values()] for arm, found in arms.items()],
                "shown": [0, *(1 + list(arms).index(arm) for arm in shown(arms))],
                "figures": [[title, *values] for title, values in figures(arms).items()],
                "key": [row for row, title in enumerate(figures(arms)) if "speedup" in title],
                "notes": notes(arms),
                "lossless": metrics["settings"][name]["lossless"],
                "plots": _plots(arms, by_arm),
                "samples": list(_samples(by_arm))[:MAX_SHOWN],
                "num_samples": len({sample for found in by_arm.values() for sample in found}),
            }
        )
    sessions = run.config["sessions"]
    return {
        "name": run.name,
        "command": command_of(run.config["asked"], run.name),
        "summary_head": list(SUMMARY),
        "asked": run.config["asked"],
        "models": {role: model for role, model in run.config["asked"]["models"].items() if model not in (None, "auto")},
        "sessions": sessions,
        "mixed": [what for what in ("machine", "versions") if any(s[what] != sessions[0][what] for s in sessions)],
        "metrics": metrics,
        "settings": settings,
    }


def _headline(arms: Mapping[str, Arm]) -> Headline:
    """Of a setting whose arms have answers."""
    best = fastest([{"arm": name, **arm} for name, arm in arms.items()])
    others = [arm for name, arm in arms.items() if name != "ar" and arm["identical"] is not None]
    compared = sum(arm["num_answers"] for arm in others)
    return headline(words(best["arm"]) if best else "", best, compared, compared - sum(a["identical"] for a in others))


def shown(arms: Iterable[str]) -> list[str]:
    """Arms that a telephone has room for, side by side: stock generate, and what this is about."""
    first = sorted(arms, key=lambda arm: next(n for n, name in enumerate(TELLING) if arm.startswith(name)))
    return first[:MOST_SHOWN]


def _plots(arms: dict[str, Any], by_arm: dict[str, dict[str, Any]]) -> list[Picture]:
    """None without matplotlib."""
    drafting = {name: arm for name, arm in arms.items() if arm["accepted_per_depth"]}
    fast = {name: arm for name, arm in arms.items() if arm["decode_speedup"] is not None and name != "ar"}
    points = {
        arm: [(r["tokens"], r["decode_speedup"]) for r in by_arm[arm].values() if r["decode_speedup"] is not None]
        for arm in fast
    }
    drawn: dict[str, Callable[[Theme], str]] = {}
    if fast:
        drawn["How many times as fast as stock generate each arm is"] = partial(plots.speedups, fast)
    if arms:
        drawn["Where the seconds of an answer go, by arm"] = partial(plots.phases, arms)
    if fast:
        drawn["The decode speedup of each answer by its length"] = partial(plots.answers, points)
    if drafting:
        drawn["The share of rounds in which guesses were accepted, by depth"] = partial(plots.acceptance, drafting)
    try:
        return [Picture.of_svgs(alt, draw(LIGHT), draw(DARK)) for alt, draw in drawn.items()]
    except OptionError:
        return []


def _samples(by_arm: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What each arm said of each sample, those first on which they differ."""
    samples = dict.fromkeys(sample for found in by_arm.values() for sample in found)
    told = []
    for sample in samples:
        there = {arm: found[sample] for arm, found in by_arm.items() if sample in found}
        first = next(iter(there.values()))
        same = all(record["token_ids"] == first["token_ids"] for record in there.values())
        told.append({"sample": sample, "arms": there, "first": first, "same": same})
    return iter(sorted(told, key=lambda sample: sample["same"]))


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _flat(part, f"{name}.{key}" if name else key)
    elif isinstance(value, list) and any(isinstance(part, dict) for part in value):
        for part in value:
            yield from _flat(part, f"{name}.{part.get('name', '')}")
    else:
        yield name, value
