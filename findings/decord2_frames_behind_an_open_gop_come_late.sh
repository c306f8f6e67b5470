#!/usr/bin/env bash
# decord2 3.4.0: of HEVC in x265's defaults, frames at or right behind a keyframe are others than those asked for.
#
# x265 makes open GOPs: pictures stored behind a keyframe and shown before it, which a decoder that begins at the keyframe
# drops. decord2 counts decoded pictures from there, as if none were missing, so that frame 30 of this film is frame 33.
# Whether it seeks depends on what else is asked for: the same frame is right in one batch and wrong in another, and
# right when frames are read in a row. x264's (`open-gop=1`) came out right.
#
# Seen on 2026-11-28, 60 frames, `keyint=15`; which frame came for each that was asked for:
#   [20, 30]  20 33
#   [30, 40]  33 43
#   [40]      40
#   in a row  all right
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check 'av==18.1.0' 'decord2==3.4.0' 'numpy==2.4.4'

cat >"$folder/which.py" <<'PYTHON'
import sys

import av
import decord
import numpy as np

path = sys.argv[1]
with av.open(path, "w") as container:
    stream = container.add_stream("libx265", rate=30, options={"x265-params": "log-level=none:keyint=15"})
    stream.width, stream.height, stream.pix_fmt = 320, 192, "yuv420p"
    for number in range(60):
        picture = np.full((192, 320, 3), 4 * number, np.uint8)
        picture[20:60, 4 * number : 4 * number + 40] = 200
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
    container.mux(stream.encode())
with av.open(path) as container:
    right = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def which(frame):
    (found,) = np.flatnonzero((right == frame).all((1, 2, 3)))
    return int(found)


for asked, seen in {(20, 30): [20, 33], (30, 40): [33, 43], (40,): [40]}.items():
    found = [which(frame) for frame in decord.VideoReader(path).get_batch(list(asked)).asnumpy()]
    print(list(asked), *found)
    assert found == seen, "other frames come now"
film = decord.VideoReader(path)
assert [which(film[place].asnumpy()) for place in range(60)] == list(range(60)), "in a row, too, others come now"
print("in a row  all right")
PYTHON
"$folder/venv/bin/python" "$folder/which.py" "$folder/film.mp4" || { echo 'CHANGED'; exit 1; }
echo 'as described'
