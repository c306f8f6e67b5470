"""Runs in the forms of other people's tools."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from specvlm.errors import OptionError, brief
from specvlm.evals.reporting.metrics import answers, latest
from specvlm.evals.run_folder import Run, is_run
from specvlm.evals.settings import DEFAULT
from specvlm.evals.writing import ESCAPED, inside, require_own_folder, require_regular, write_whole
from specvlm.video.files.addresses import at_home

Record = dict[str, Any]

PAPER_METHODS = {"ar": "ar", "sd": "naive_sd", "specvlm": "specvlm"}
"""What the paper's code calls these arms. It has no others."""


Files = dict[str, list[Record]]
"""What is written, by the name of its file."""


def to_paper(run: Run) -> Files:
    """results.jsonl and metric.jsonl as SpecVLM's own code writes them (inference.py of zju-jiyicheng/SpecVLM).

    `average_accept_length` there leaves the bonus out: accepted draft tokens a round. Figures aren't rounded.
    """
    methods = {PAPER_METHODS[arm]: found for arm, found in _by_arm(run).items() if arm in PAPER_METHODS}
    samples = {sample: index for index, sample in enumerate(_samples(run))}
    results = [
        _paper_record(samples[sample], method, record)
        for sample in samples
        for method, found in methods.items()
        if (record := found.get(sample)) is not None
    ]
    metrics = [_paper_metric(method, list(found.values())) for method, found in methods.items() if found]
    return {"results.jsonl": results, "metric.jsonl": metrics}


def to_spec_bench(run: Run) -> Files:
    """A file an arm, as Spec-Bench's evaluation/speed.py reads them (hemingkx/Spec-Bench, arXiv:2401.07851).

    `accept_lengths` there count the bonus, `wall_time` starts with the prepared inputs, and the category is the kind of
    question or, where there is one kind, the task.
    """
    task = run.config["asked"]["task"]["name"]
    samples = {sample: index for index, sample in enumerate(_samples(run))}
    return {
        f"{run.name}-{arm}.jsonl": [
            _spec_bench_record(samples[sample], task, f"{_model(run)}-{arm}", record)
            for sample, record in found.items()
        ]
        for arm, found in _by_arm(run).items()
    }


FORMS: dict[str, Callable[[Run], Files]] = {"paper": to_paper, "spec-bench": to_spec_bench}


def convert(run: Run, form: str, out: Path | None = None) -> list[Path]:
    """Write a run in one of `FORMS`, and return the files.

    They go into a folder of the run's that is called like the form, where they take the place of older ones; or into
    `out`, where nothing is written over. Errors: OptionError, before the first of them is written.
    """
    if form not in FORMS:
        raise OptionError(f"there is no form {brief(repr(form))} to convert to; there are {', '.join(FORMS)}")
    if not any(_by_arm(run).values()):
        raise OptionError(f"{run.path} has no answers to convert")
    out = None if out is None else at_home(out)
    if out is not None and is_run(out):
        raise OptionError(f"out: {brief(out)} is the folder of a run, whose records stay as they are: name another")
    folder = run.path / form if out is None else out
    texts = {inside(folder, name): _lines(records) for name, records in FORMS[form](run).items()}
    for path, text in texts.items():
        if require_regular(path) is not None and out is not None and path.read_bytes() != text.encode(errors=ESCAPED):
            raise OptionError(f"out: {brief(path)} holds something else: remove it, or name another folder")
    if out is None:
        require_own_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        write_whole(path, text)
    return list(texts)


def _by_arm(run: Run) -> dict[str, dict[str, Record]]:
    """The answers of the run's first setting: these forms know of none."""
    settings = {setting["name"]: setting for setting in run.config["asked"]["settings"]}
    setting = settings.get(DEFAULT) or next(iter(settings.values()))
    mine = [record for record in latest(run.records) if record["setting"] == setting["name"]]
    return {arm: answers(mine, arm) for arm in setting["arms"]}


def _samples(run: Run) -> list[str]:
    return list(dict.fromkeys(sample for found in _by_arm(run).values() for sample in found))


def _model(run: Run) -> str:
    return Path(str(run.config["asked"]["models"].get("target", "model"))).name


def _paper_record(index: int, method: str, record: Record) -> Record:
    made = {
        "sample_index": index,
        "method": method,
        "decoding_time": record["decode_seconds"],
        "generate_len": record["tokens"],
    }
    if method != "ar":
        made["average_accept_length"] = _accepted(record)
    return made | {"output": record["text"]}


def _paper_metric(method: str, records: list[Record]) -> Record:
    tokens = sum(record["tokens"] for record in records) / len(records)
    seconds = sum(record["decode_seconds"] for record in records) / len(records)
    made = {
        "method": method,
        "avg_generate_len": tokens,
        "avg_decoding_time": seconds,
        "avg_tokens_per_second": tokens / seconds if seconds else None,
    }
    if method != "ar":
        made["avg_accept_length"] = sum(map(_accepted, records)) / len(records)
    return made


def _accepted(record: Record) -> float:
    return record["num_accepted"] / record["num_rounds"] if record["num_rounds"] else 0.0


def _spec_bench_record(index: int, task: str, model: str, record: Record) -> Record:
    before = sum(record["phases"].get(phase, 0.0) for phase in ("decode_video", "preprocess"))
    return {
        "question_id": index,
        "category": record["group"] or task,
        "answer_id": hashlib.sha256(f"{model}/{record['sample']}".encode()).hexdigest()[:22],
        "model_id": model,
        "choices": [
            {
                "index": 0,
                "turns": [record["text"]],
                "decoding_steps": [record["num_rounds"]],
                "new_tokens": [record["tokens"]],
                "wall_time": [record["total_seconds"] - before],
                "accept_lengths": record["emitted_per_round"],
            }
        ],
        "tstamp": record["time"],
    }


def _lines(records: Iterable[Record]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
