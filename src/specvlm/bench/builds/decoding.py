"""How fast whole answers of the pocket pairs are decoded, under fixed trees and under a plan.

To be run by `turns`, on any build that has them.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch

from specvlm.pipeline import load
from specvlm.pocket import demo_video

PAIRS = ("pocket-llava_onevision", "pocket-qwen2_5_vl")
WAYS: dict[str, dict[str, Any]] = {
    "dynamic": {"tree": "dynamic"},
    "paper": {"tree": "paper"},
    "chain": {"tree": "chain"},
    "auto": {"plan": "auto"},
}
ASKED: dict[str, Any] = {"num_frames": 32, "max_new_tokens": 128, "do_sample": False}


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    pairs = {name: load(name) for name in PAIRS}
    cases = {f"{name} {way}": (pairs[name], asked) for name in PAIRS for way, asked in WAYS.items()}
    sys.stdout.write(json.dumps(list(cases)) + "\n")
    sys.stdout.flush()
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / "film.mp4"
        demo_video(film)
        for line in sys.stdin:
            pair, asked = cases[line.strip()]
            answer = pair.generate(film, "Describe the video in detail.", **ASKED, **asked)
            seconds = answer.stats.decode_seconds / (answer.stats.num_tokens - 1)
            sys.stdout.write(json.dumps({"seconds": seconds, "said": list(answer.token_ids)}) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
