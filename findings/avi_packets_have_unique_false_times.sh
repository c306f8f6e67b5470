#!/usr/bin/env bash
# PyAV 18.1.0 (libavformat 62.12.102): H.264 with B-frames in AVI, x264's default, demuxes with presentation times that
# all differ and are all false.
#
# AVI stores no presentation times. libavformat gives each packet its decode time plus one as `pts`: unique, complete,
# rising, nothing that would make one doubt them. Whoever sorts frames by the times that they carry shows them in the
# order 0 3 1 2 .. instead of 0 1 2 3. The decoder's own order is right, its times are not.
#
# Seen on 2026-11-27: frames come out as 0 1 2 3 4 5 6 7 8 9, with pts 1 3 4 2 6 7 5 9 10 8.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check 'av==18.1.0' 'numpy==2.4.6'

cat >"$folder/times.py" <<'PYTHON'
import io

import av
import numpy as np

data = io.BytesIO()
with av.open(data, "w", format="avi") as out:
    stream = out.add_stream("libx264", rate=30, options={"x264-params": "bframes=2:b-adapt=0:keyint=10:qp=20"})
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    for number in range(10):
        frame = av.VideoFrame.from_ndarray(np.full((72, 64), 20 + 20 * number, np.uint8), format="yuv420p")
        frame.pts = number
        out.mux(stream.encode(frame))
    out.mux(stream.encode())

data.seek(0)
with av.open(data) as file:
    packets = [(packet.pts, packet.dts) for packet in file.demux(video=0) if packet.size]
data.seek(0)
with av.open(data) as file:
    shown = [(round(frame.to_ndarray()[:48].mean() / 20) - 1, frame.pts) for frame in file.decode(video=0)]
print("packets (pts, dts):", *packets)
print("frames  (number, pts):", *shown)
numbers, times = zip(*shown)
assert all(pts == dts + 1 for pts, dts in packets), "packets have other times now"
assert numbers == tuple(range(10)), "frames come in another order now"
assert list(times) != sorted(times), "frames have rising times now"
PYTHON
"$folder/venv/bin/python" "$folder/times.py" || { echo 'CHANGED'; exit 1; }
echo 'as described'
