"""The report of one run or several, as a page of HTML that needs nothing beside it."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import Any

from specvlm.errors import OptionError
from specvlm.evals.reporting import plots
from specvlm.evals.reporting.figures import figures, notes, share, times
from specvlm.evals.reporting.metrics import answers, latest, metrics_of
from specvlm.evals.run_folder import Run

MAX_SHOWN = 300
"""Samples whose answers are on the page. Those on which arms differ come first; results.jsonl has all."""


def report_html(runs: Sequence[Run]) -> str:
    """One section a run; of several, first what they differ in and their figures side by side. Errors: OptionError."""
    environment = new_environment()
    environment.filters |= {"share": share, "times": times}
    template = environment.from_string(
        files("specvlm.evals.reporting").joinpath("report.html.jinja").read_text(encoding="utf-8")
    )
    return template.render(runs=[_section(run) for run in runs], differences=differences(runs))


def new_environment() -> Any:
    """Where templates are filled in. Errors: OptionError if jinja2 isn't installed."""
    try:
        import jinja2
    except ImportError:
        raise OptionError("reports are laid out by jinja2: pip install 'specvlm[eval]'") from None
    return jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)


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
                "figures": figures(arms),
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
        "asked": run.config["asked"],
        "models": {role: model for role, model in run.config["asked"]["models"].items() if model is not None},
        "sessions": sessions,
        "mixed": [what for what in ("machine", "versions") if any(s[what] != sessions[0][what] for s in sessions)],
        "metrics": metrics,
        "settings": settings,
    }


def _plots(arms: dict[str, Any], by_arm: dict[str, dict[str, Any]]) -> list[str]:
    """As data URIs, so that nothing in one picture meets anything in another. None without matplotlib."""
    drafting = {name: arm for name, arm in arms.items() if arm["accepted_per_depth"]}
    fast = {name: arm for name, arm in arms.items() if arm["decode_speedup"] is not None and name != "ar"}
    points = {
        arm: [(r["tokens"], r["decode_speedup"]) for r in by_arm[arm].values() if r["decode_speedup"] is not None]
        for arm in fast
    }
    try:
        drawn = [plots.phases(arms)] if arms else []
        drawn += [plots.speedups(fast), plots.answers(points)] if fast else []
        drawn += [plots.acceptance(drafting)] if drafting else []
    except OptionError:
        return []
    return ["data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode() for svg in drawn]


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
