"""What follows from the records of a run: one record an arm, and whether all arms said the same."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from specvlm.errors import OptionError, brief
from specvlm.evals.run_folder import Run
from specvlm.evals.runner import key_of
from specvlm.evals.sample import Sample
from specvlm.evals.tasks import TASKS, Task

Record = dict[str, Any]
Metrics = dict[str, Any]
"""Ready for `json.dumps`. Its keys: docs/evals.md."""


def metrics_of(run: Run) -> Metrics:
    """The figures of a run as far as it is done. Errors: OptionError if its answers can't be graded here."""
    records = latest(run.records)
    asked = run.config["asked"]
    total_scores = _task(run, asked).total_scores
    settings = {}
    for setting in asked["settings"]:
        mine = [record for record in records if record["setting"] == setting["name"]]
        by_arm = {arm: answers(mine, arm) for arm in setting["arms"]}
        settings[setting["name"]] = {
            "arms": {arm: _arm(found, by_arm.get("ar", {}), total_scores) for arm, found in by_arm.items()},
            "lossless": lossless(by_arm),
        }
    broken = [
        {"setting": r["setting"], "sample": r["sample"], "arm": r["arm"], "error": r["error"]}
        for r in records
        if r["error"]
    ]
    return {
        "task": asked["task"]["name"],
        "num_samples": len({record["sample"] for record in records}),
        "num_broken": len({record["sample"] for record in broken}),
        "broken": broken,
        "unreadable": list(run.unreadable),
        "settings": settings,
    }


def _task(run: Run, asked: Mapping[str, Any]) -> type[Task]:
    """Errors: OptionError if the config is of something else, or of a task that isn't there now."""
    name = asked["task"].get("name") if isinstance(asked.get("task"), dict) else None
    if name not in TASKS or "settings" not in asked:
        raise OptionError(
            f"{run.path} was asked task {brief(repr(name))} in its config.json, and there are {', '.join(TASKS)}"
        )
    return TASKS[name]


def latest(records: Iterable[Record]) -> list[Record]:
    """Of several records of one thing, the last: an answer takes the place of an error that was tried again."""
    return list({key_of(record): record for record in _without_mended(list(records))}.values())


def _without_mended(records: Sequence[Record]) -> list[Record]:
    """Without errors that ended a sample (their records are of no arm) and that an answer came after."""
    kept: list[Record] = []
    answered: set[tuple[str, str]] = set()
    for record in reversed(records):
        of = (record["setting"], record["sample"])
        if not record["error"]:
            answered.add(of)
        if record["arm"] is not None or of not in answered:
            kept.append(record)
    return kept[::-1]


def answers(records: Iterable[Record], arm: str) -> dict[str, Record]:
    """The answers of an arm by their samples."""
    return {record["sample"]: record for record in records if record["arm"] == arm and not record["error"]}


def lossless(by_arm: Mapping[str, Mapping[str, Record]]) -> dict[str, Any]:
    """Sample by sample: did all arms give the same tokens, and the same scores?"""
    compared, different, scored_differently = 0, [], []
    for sample in dict.fromkeys(sample for found in by_arm.values() for sample in found):
        there = {arm: found[sample] for arm, found in by_arm.items() if sample in found}
        if len(there) < 2:
            continue
        compared += 1
        first, *others = there.values()
        if any(other["token_ids"] != first["token_ids"] for other in others):
            arms = [arm for arm, record in there.items() if record["identical"] is False]
            positions = [there[arm]["first_divergence"] for arm in arms]
            different.append({"sample": sample, "arms": arms, "first_divergence": min(positions, default=None)})
        if any(other["scores"] != first["scores"] for other in others):
            scored_differently.append(sample)
    return {"compared": compared, "different": different, "scored_differently": scored_differently}


def _arm(
    found: Mapping[str, Record],
    oracle: Mapping[str, Record],
    total_scores: Callable[[Sequence[tuple[Sample, str]]], Mapping[str, tuple[float, float]]],
) -> Metrics:
    """Sums over samples, where a figure is a rate; medians, where it is the time of an answer."""
    records = list(found.values())
    if not records:
        return {"num_answers": 0}

    def total(name: str) -> Any:
        return sum(record[name] for record in records)

    def median(name: str) -> Any:
        return statistics.median(record[name] for record in records)

    def mean(name: str) -> Any:
        return statistics.fmean(record[name] for record in records)

    after_first = total("tokens") - len(records)
    depths = max(len(record["accepted_per_depth"]) for record in records)
    per_depth = [
        sum(r["accepted_per_depth"][d] for r in records if d < len(r["accepted_per_depth"])) for d in range(depths)
    ]
    rounds, drafted, decode_seconds = total("num_rounds"), total("num_drafted"), total("decode_seconds")
    graded = [
        (Sample(sample_id=r["sample"], choices=tuple(r["choices"]), answer=r["answer"]), r["text"]) for r in records
    ]
    groups = dict.fromkeys(record["group"] for record in records if record["group"])
    return {
        "num_answers": len(records),
        "tokens": total("tokens"),
        "identical": _identical(records),
        "mean_acceptance_length": after_first / rounds if rounds else 1.0,
        "acceptance_rate": total("num_accepted") / drafted if drafted else None,
        "accepted_per_depth": [accepted / rounds for accepted in per_depth] if rounds else [],
        "tokens_per_second": after_first / decode_seconds if decode_seconds else 0.0,
        "ttft_seconds": median("ttft_seconds"),
        "decode_seconds": median("decode_seconds"),
        "total_seconds": median("total_seconds"),
        "decode_speedup": _speedup(found, oracle, "decode_seconds"),
        "end_to_end_speedup": None if any(map(_from_a_cache, records)) else _speedup(found, oracle, "total_seconds"),
        "num_video_tokens": mean("num_video_tokens"),
        "num_kept": mean("num_kept"),
        "peak_memory_bytes": max(record["peak_memory_bytes"] for record in records),
        "phases": {
            name: statistics.fmean(record["phases"].get(name, 0.0) for record in records)
            for name in dict.fromkeys(name for record in records for name in record["phases"])
        },
        "scores": _shares(records) | {name: points / of for name, (points, of) in total_scores(graded).items()},
        "groups": {group: _shares([r for r in records if r["group"] == group]) for group in groups},
    }


def _identical(records: Sequence[Record]) -> int | None:
    """How many answers are those of the arm `ar`; None if none could be compared."""
    compared = [record["identical"] for record in records if record["identical"] is not None]
    return sum(compared) if compared else None


def _from_a_cache(record: Record) -> bool:
    """Whether an answer may have been spared what stock generate did: only half of its speed is told."""
    return record["decode_speedup"] is not None and record["end_to_end_speedup"] is None


def _speedup(found: Mapping[str, Record], oracle: Mapping[str, Record], name: str) -> float | None:
    """How many times as fast as stock generate, over the samples that both have answered."""
    both = [sample for sample in found if sample in oracle]
    mine, theirs = (sum(arm[sample][name] for sample in both) for arm in (found, oracle))
    return theirs / mine if both and mine > 0 else None


def _shares(records: Sequence[Record]) -> dict[str, float]:
    """Points over possible points of each score, and of all that are counted alike."""
    names = dict.fromkeys(name for record in records for name in record["scores"])
    sums = {
        name: [sum(column) for column in zip(*(r["scores"][name] for r in records if name in r["scores"]), strict=True)]
        for name in names
    }
    return {name: points / of for name, (points, of) in sums.items() if of}
