"""How long the pocket Qwen pair takes from a closed file to its first token, and the most memory that it takes, with 32
frames of each film in the folder that SPECVLM_FILMS names (`specvlm.bench.reading` renders some). To be run by `turns`,
on any build that answers.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path

import torch

from specvlm.engine.stats import reset_peak_memory
from specvlm.pipeline import load

PAIR = "pocket-qwen2_5_vl"
NUM_FRAMES = 32


def main() -> None:
    folder = Path(os.environ["SPECVLM_FILMS"])
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    warnings.simplefilter("ignore")  # of a toy that is shown films of another world
    pair = load(PAIR)
    sys.stdout.write(json.dumps(sorted(path.name for path in folder.iterdir())) + "\n")
    sys.stdout.flush()
    for line in sys.stdin:
        film = folder / line.strip()
        reset_peak_memory()
        answer = pair.generate(
            film, "Describe the video.", num_frames=NUM_FRAMES, max_new_tokens=16, do_sample=False, tree="dynamic"
        )
        told = {"seconds": answer.stats.ttft_seconds, "said": list(answer.token_ids)}
        sys.stdout.write(json.dumps(told | {"bytes": answer.stats.peak_memory_bytes}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
