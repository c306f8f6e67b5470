"""Records of answers that nobody gave: everything that they hold is known beforehand."""

from __future__ import annotations

from typing import Any

from specvlm.evals.evaluate import measured_against

ANSWER = [7, 8, 9, 10, 2]


def answered(sample: str, arm: str, *, tokens: list[int] | None = None, seconds: float = 1.0, **changes: Any) -> dict:
    """An answer of five tokens (or others), in as many seconds, in rounds of two if it was drafted."""
    tokens = ANSWER if tokens is None else tokens
    drafted = arm in ("sd", "specvlm")
    rounds = (len(tokens) - 1) // 2 if drafted else len(tokens) - 1
    record = {
        "setting": "default",
        "sample": sample,
        "arm": arm,
        "video": f"/films/{sample}.mp4",
        "question": "Which one?",
        "choices": ["red", "green"],
        "answer": "A",
        "group": "colours",
        "text": "A" if tokens == ANSWER else "B",
        "token_ids": tokens,
        "tokens": len(tokens),
        "finish_reason": "eos",
        "mean_acceptance_length": 2.0 if drafted else 1.0,
        "acceptance_rate": 0.25 if drafted else None,
        "tokens_per_second": (len(tokens) - 1) / seconds,
        "ttft_seconds": 0.5,
        "decode_seconds": seconds,
        "total_seconds": seconds + 1.0,
        "num_video_tokens": 100,
        "num_kept": 10 if arm == "specvlm" else 100,
        "peak_memory_bytes": 1000,
        "phases": {"decode_video": 0.25, "preprocess": 0.25, "verify": seconds},
        "num_prompt_tokens": 120,
        "num_rounds": rounds,
        "num_drafted": 4 * rounds if drafted else 0,
        "num_accepted": rounds if drafted else 0,
        "num_draft_forwards": rounds if drafted else 0,
        "accepted_per_depth": [rounds] if drafted else [],
        "emitted_per_round": [2 if drafted else 1] * rounds,
        "dtype": "float32",
        "error": None,
        "time": 1.0,
        "scores": {"accuracy": [float(tokens == ANSWER), 1.0], "understood": [1.0, 1.0]},
    }
    return record | measured_against(record, None) | changes


def run_of(sample: str, **arms: dict[str, Any]) -> list[dict]:
    """The records of a sample, each with what it is against the first."""
    records = [answered(sample, arm, **how) for arm, how in arms.items()]
    return [record | measured_against(record, records[0]) for record in records]


def failed(sample: str, arm: str | None, error: str) -> dict:
    return {"setting": "default", "sample": sample, "arm": arm, "error": error, "time": 1.0, "scores": {}}


CONFIG = {
    "asked": {
        "format": 1,
        "task": {"name": "mlvu", "data": "/films", "num_samples": None},
        "models": {"target": "big/model", "draft": "small/model", "dtype": "float32"},
        "settings": [
            {"name": "default", "arms": ["ar", "sd", "specvlm"], "options": {"pruning_ratio": 0.9, "num_frames": 8}}
        ],
    },
    "sessions": [
        {
            "started": "2026-11-23T06:00:00+00:00",
            "machine": {"platform": "Linux", "cpu": "a CPU", "cores": 2, "threads": 1, "gpus": []},
            "versions": {"python": "3.11", "specvlm": "0.1.0"},
        }
    ],
}
