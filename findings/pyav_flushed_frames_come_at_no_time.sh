#!/usr/bin/env bash
# PyAV 18.1.0: the frames that a decoder still held at the end have a `pts` and no `time`: it is nan, and compares as such.
#
# A codec context that is flushed by `decode(None)`, as its documentation says, has no packet to take the time base from,
# and the frame's is None then. `container.decode`, `packet.decode` and `stream.decode` know better. Whoever picks frames by
# `frame.time` from a codec context (each that feeds packets of its own choice has to) loses the last ones without a word:
# of a film of x264's defaults two.
#
# Seen on 2026-11-28, for a film of 10 frames at 30 a second:
#   container.decode       10 frames, 10 of them before a second is over
#   codec_context.decode   10 frames, 8 of them before a second is over
#   time bases of the rest: None None
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check 'av==18.1.0' 'numpy==2.4.4'

cat >"$folder/times.py" <<'PYTHON'
import io

import av
import numpy as np

film = io.BytesIO()
with av.open(film, "w", format="mp4") as container:
    stream = container.add_stream("libx264", rate=30)
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    for number in range(10):
        picture = np.full((48, 64, 3), 20 * number, np.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
    container.mux(stream.encode())


def opened():
    film.seek(0)
    return av.open(film)


with opened() as container:
    whole = list(container.decode(video=0))
with opened() as container:
    [stream] = container.streams.video
    stream.thread_type, stream.codec_context.thread_count = "NONE", 1
    packets = [packet for packet in container.demux(stream) if packet.dts is not None]
    held = [frame for packet in [*packets, None] for frame in stream.codec_context.decode(packet)]
for name, frames in (("container.decode", whole), ("codec_context.decode", held)):
    early = sum(frame.time < 1 for frame in frames)
    print(f"{name:22} {len(frames)} frames, {early} of them before a second is over")
assert [frame.pts for frame in held] == [frame.pts for frame in whole]
assert all(frame.time < 1 for frame in whole)
late = [frame for frame in held if not frame.time < 1]
print("time bases of the rest:", *(frame.time_base for frame in late))
assert len(late) == 2 and all(frame.time != frame.time and frame.time_base is None for frame in late), "they have times now"
PYTHON
"$folder/venv/bin/python" "$folder/times.py" || { echo 'CHANGED'; exit 1; }
echo 'as described'
