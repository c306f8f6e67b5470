#!/usr/bin/env bash
# PyAV 18.1.0 (libavformat 62.12.102): two MPEG-TS recordings in one file, the second of which begins at an earlier time
# than the first, last a day.
#
# `cat a.ts b.ts` is how recorders and players of this format join files. libavformat takes the step back for the
# 33-bit clock running over, and adds 2^33 ticks of 1/90,000 s (26.5 hours) to the times of the second: 20 frames of two
# thirds of a second span 94,444 s. A sampler that asks for a frame a second is then told of a video of a day.
#
# Seen on 2026-11-27: duration of the container 94444 s, largest step between two frames 94443 s.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check 'av==18.1.0' 'numpy==2.4.6'

cat >"$folder/clock.py" <<'PYTHON'
import io

import av
import numpy as np


def recording(start: int) -> bytes:
    data = io.BytesIO()
    with av.open(data, "w", format="mpegts") as out:
        stream = out.add_stream("libx264", rate=30, options={"x264-params": "bframes=0:keyint=10"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((72, 64), 20 * number, np.uint8), format="yuv420p")
            frame.pts = start * 30 + number
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return data.getvalue()


with av.open(io.BytesIO(recording(1000) + recording(0))) as file:
    length = file.duration / 1e6
    times = [float(frame.time) for frame in file.decode(video=0)]
step = max(b - a for a, b in zip(times, times[1:]))
print(f"{len(times)} frames, container of {length:.0f} s, largest step {step:.0f} s")
assert len(times) == 20 and 94000 < step < 96000, "the second recording has other times now"
PYTHON
"$folder/venv/bin/python" "$folder/clock.py" || { echo 'CHANGED'; exit 1; }
echo 'as described'
