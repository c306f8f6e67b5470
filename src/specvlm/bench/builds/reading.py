"""How fast 64 frames are read of each film in the folder that SPECVLM_FILMS names (`specvlm.bench.reading` renders
some). To be run by `turns`, on any build that reads films.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

from specvlm import video

NUM_FRAMES = 64


def main() -> None:
    folder = Path(os.environ["SPECVLM_FILMS"])
    sys.stdout.write(json.dumps(sorted(path.name for path in folder.iterdir())) + "\n")
    sys.stdout.flush()
    for line in sys.stdin:
        start = time.perf_counter()
        frames = video.load(folder / line.strip(), num_frames=NUM_FRAMES).frames
        seconds = time.perf_counter() - start
        said = hashlib.sha256(np.ascontiguousarray(frames).tobytes()).hexdigest()
        sys.stdout.write(json.dumps({"seconds": seconds, "said": said}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
