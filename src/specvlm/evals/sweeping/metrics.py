"""What follows from the records of a sweep: the figures of each point of its grid."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import zip_longest
from typing import Any

import numpy as np

from specvlm.evals.evaluate import Record, measured_against
from specvlm.evals.reporting.metrics import Metrics, answers, latest, metrics_of
from specvlm.evals.run_folder import Run
from specvlm.evals.sweeping.grid import Point
from specvlm.pruning.base import Number

BINS = 16
"""Stretches that a video is divided into, at the most, to show where in time tokens lie."""


def by_group(run: Run) -> Run:
    """The same run as if each number of frames were a setting and each point an arm of it: so that all of them are held
    against one stock generate, in figures and in exactness."""
    points = _points(run)
    groups: dict[str, list[str]] = {}
    for point in points.values():
        groups.setdefault(point.group, []).append(point.label)
    group_of = {name: point.group for (name, _), point in points.items()}
    records = [
        record
        | {
            "setting": group_of[record["setting"]],
            "arm": None if record["arm"] is None else points[record["setting"], record["arm"]].label,
        }
        for record in latest(run.records)
    ]
    oracles = {group: answers([r for r in records if r["setting"] == group], "ar") for group in groups}
    records = [r if r["error"] else r | measured_against(r, oracles[r["setting"]].get(r["sample"])) for r in records]
    settings = [{"name": group, "arms": labels, "options": {}} for group, labels in groups.items()]
    return replace(run, config=run.config | {"asked": run.config["asked"] | {"settings": settings}}, records=records)


def sweep_metrics(run: Run) -> Metrics:
    """The figures of a sweep as far as it is done: those of `metrics_of`, with `points` in the place of settings.

    Errors: OptionError if its answers can't be graded here.
    """
    view = by_group(run)
    metrics = metrics_of(view)
    groups = metrics.pop("settings")
    points = []
    for (_, arm), point in _points(run).items():
        found = answers([record for record in view.records if record["setting"] == point.group], point.label)
        measured = groups[point.group]["arms"][point.label]
        points.append({"arm": arm, **asdict(point), **measured, **_shown(list(found.values()))})
    return metrics | {"points": points, "lossless": {group: of["lossless"] for group, of in groups.items()}}


def _points(run: Run) -> dict[tuple[str, str], Point]:
    """By setting and arm, in the order in which they are answered."""
    return {
        (setting["name"], arm): Point.of(setting["options"], arm)
        for setting in run.config["asked"]["settings"]
        for arm in setting["arms"]
    }


def _shown(records: Sequence[Record]) -> dict[str, Any]:
    """What of the videos the draft was shown, and where the target looked, over all answers of a point.

    Over time: relative to an even spread, from the videos' first stretch to their last.
    """
    stages = [record["kept_per_stage"] for record in records if "kept_per_stage" in record]
    sums = [sum(counts) for counts in zip_longest(*stages, fillvalue=0)]
    return {
        "kept_by_stage": [count / sum(sums) for count in sums] if sum(sums) else [],
        "kept_over_time": _over_time([r["kept_per_frame"] for r in records if "kept_per_frame" in r]),
        "attention_over_time": _over_time([r["attention_per_frame"] for r in records if "attention_per_frame" in r]),
    }


def _over_time(per_frame: Sequence[Sequence[Number]]) -> list[float]:
    """Amounts per frame, each video's relative to an even spread, which is 1, and their mean over videos."""
    per_frame = [amounts for amounts in per_frame if sum(amounts) > 0]
    if not per_frame:
        return []
    num_bins = min(BINS, *(len(amounts) for amounts in per_frame))
    shares = [[amount / sum(amounts) for amount in in_bins(amounts, num_bins)] for amounts in per_frame]
    return [num_bins * statistics.fmean(column) for column in zip(*shares, strict=True)]


def in_bins(amounts: Sequence[Number], num_bins: int) -> list[float]:
    """Amounts of equal stretches, each taken as even in itself, over `num_bins` equal stretches; their sum stays."""
    sums = np.concatenate([[0.0], np.cumsum(amounts)])
    edges = np.linspace(0, len(amounts), num_bins + 1)
    return np.diff(np.interp(edges, np.arange(len(sums)), sums)).tolist()
