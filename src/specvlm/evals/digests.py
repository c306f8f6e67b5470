"""Rows by their content: what was answered is known again, though its row has another number now."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from specvlm.errors import OptionError, brief
from specvlm.evals.sample import Sample

ROW = "row"
"""The key of a record under which the digest of its row is kept."""


def digest(sample: Sample) -> str:
    """All that is asked and graded, as 16 hexadecimal digits. The video counts by its name and its size in bytes: it
    may move within the data, and to read it would take as long as to answer."""
    content = {
        "video": _named(sample.video),
        "span": sample.span,
        "system": sample.system,
        "question": sample.question,
        "choices": sample.choices,
        "answer": sample.answer,
        "group": sample.group,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def require_unchanged(
    samples: Sequence[Sample], records: Iterable[Mapping[str, Any]], num_samples: int | None = None
) -> None:
    """What has an answer is still asked. Broken samples may have been mended, new ones may follow, and a row whose
    video is gone by now keeps its answers.

    Errors: OptionError for the first row that is another one now, or is gone from data that was read to its end
    (which it is without `num_samples`, or where there are fewer).
    """
    answered = {
        record["sample"]: record[ROW] for record in records if not record.get("error") and record.get(ROW) is not None
    }
    asked = {sample.sample_id: sample for sample in samples}
    to_the_end = num_samples is None or sum(sample.problem is None for sample in samples) < num_samples
    for name, known in answered.items():
        sample = asked.get(name)
        if sample is None and to_the_end:
            _refuse(name, "is not there now")
        if sample is not None and sample.problem is None and digest(sample) != known:
            _refuse(name, "is another one now")


def _refuse(name: str, what: str) -> None:
    raise OptionError(
        f"data: row {brief(name, 80)} was answered in this run, and {what} (its question, its answer or its video "
        "changed, or rows were moved): put the data back as it was, or begin another run with a new --out"
    )


def _named(video: str) -> tuple[str, Any]:
    """The last part of its path, and its size; of a folder of pictures, the sizes of all."""
    path = Path(video)
    try:
        if path.is_dir():
            return path.name, sorted((entry.name, entry.stat().st_size) for entry in os.scandir(path))
        return path.name, path.stat().st_size
    except (OSError, ValueError):
        return path.name, None
