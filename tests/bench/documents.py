"""A bench's document that nobody had to measure: two prompts, three arms, one of them wrong, one peer refused."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from specvlm.bench.growth import growths
from specvlm.bench.limits import Limit, Standing
from specvlm.bench.steps import OURS, STOCK, Step
from specvlm.comparing.record import Arm

PLAIN = Arm(
    arm="ar",
    tokens=64,
    identical=True,
    first_divergence=None,
    mean_acceptance_length=1.0,
    acceptance_rate=None,
    tokens_per_second=10.0,
    ttft_seconds=1.25,
    decode_seconds=6.3,
    total_seconds=7.55,
    decode_speedup=1.0,
    end_to_end_speedup=1.0,
    num_video_tokens=145,
    num_kept=145,
    peak_memory_bytes=1_500_000_000,
    phases={"prefill_target": 1.25, "verify": 6.3, "other": 0.0},
    spread={"tokens_per_second": (9.0, 11.0), "ttft_seconds": (1.2, 1.3)},
)
ARMS = (
    PLAIN,
    replace(PLAIN, arm="loop", decode_speedup=1.26, decode_seconds=5.0),
    replace(
        PLAIN,
        arm="specvlm@0.9",
        identical=False,
        first_divergence=17,
        mean_acceptance_length=4.2,
        acceptance_rate=0.4,
        decode_seconds=2.1,
        decode_speedup=3.0,
        end_to_end_speedup=2.25,
        num_kept=14,
        phases={"prefill_target": 1.25, "draft": 0.6, "verify": 1.5},
    ),
)
STEPS = [Step(STOCK, 1, 300, 0.1, 0.09, 0.11)] + [
    Step(OURS, rows, 300, 0.09 + rows / 1000, 0.09, 0.2) for rows in (1, 26)
]


def document(**bench: Any) -> dict[str, Any]:
    limit = Limit(1.5, 4.2, 71.4)
    stands = Standing({"prefill_target": 1.0, "verify": 1.2}, {"prefill_target": 1.25, "verify": 1.25}, limit, limit)
    cells = [(145, 64), (289, 64)]
    points = [(video, new, video + 20, arm) for video, new in cells for arm in ARMS]
    return {
        "arms": [
            asdict(arm)
            | {"video_tokens": v, "new_tokens": n, "num_prompt_tokens": v + 20, "num_video_tokens": v}
            | {"roofline": asdict(replace(stands, loop_limit=None) if arm.arm == "ar" else stands)}
            for v, n in cells
            for arm in ARMS
        ],
        "machine": {
            "cpu": "A <fast> CPU",
            "cores": 2,
            "threads": 1,
            "bytes_per_second": 35e9,
            "operations_per_second": 4e11,
        },
        "versions": {"python": "3.11", "torch": "2.14"},
        "options": {"max_new_tokens": 256},
        "bench": {
            "pair": "pocket-llava_onevision",
            "about": "The embedded pair & what it is not.",
            "dtype": "float32",
            "date": "2026-11-23T06:31+00:00",
            "repeats": 3,
            "exact_length": False,
        }
        | bench,
        "cells": [
            {
                "video_tokens": v,
                "new_tokens": n,
                "num_frames": v // 9,
                "num_blank_frames": 0,
                "film": 3,
                "question": "Describe the video in detail.",
                "answer": "The video shows two shapes.",
                "finish_reason": "length",
                "refused": {"assisted": "ValueError: no assistant"} if v == 289 else {},
            }
            for v, n in cells
        ],
        "costs": {
            "steps": [asdict(step) for step in STEPS],
            "growth": [asdict(growth) for growth in growths(points, STEPS)],
        },
    }
