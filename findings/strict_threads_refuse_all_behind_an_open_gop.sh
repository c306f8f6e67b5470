#!/usr/bin/env bash
# PyAV 18.1.0: with `err_detect=explode`, two threads refuse every packet of a sound H.264 film from a keyframe on.
#
# x264's open GOPs have pictures that are stored behind a keyframe, shown before it, and not to be had by who begins there.
# FFmpeg's H.264 decoder notes there that a picture to be forgotten isn't known, and with `explode` calls that an error. One
# thread says so of a single packet and still yields every frame from the keyframe on, right to the bit. Two threads, a
# picture each, refuse that packet and all behind it, to the end of the film. From the film's start nobody refuses any.
#
# Seen on 2026-11-28, 40 frames, `keyint=10`, begun at the keyframe that is frame 10; frames from there on that came, of
# 30 that are right, and packets refused:
#   1 thread   lenient  30 of 30, 0 refused      strict  30 of 30, 1 refused
#   2 threads  lenient  30 of 30, 0 refused      strict   0 of 30, 28 refused and the flush
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check 'av==18.1.0' 'numpy==2.4.4'

cat >"$folder/strict.py" <<'PYTHON'
import sys

import av
import numpy as np
from av.error import InvalidDataError

path = sys.argv[1]
params = "keyint=10:scenecut=0:bframes=2:qp=20:open-gop=1:threads=1"
with av.open(path, "w") as container:
    stream = container.add_stream("libx264", rate=30, options={"x264-params": params})
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    for place in range(40):
        pixels = np.full((48, 64, 3), 90, np.uint8)
        pixels[place : place + 8, place : place + 8] = 250
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
    container.mux(stream.encode(None))


def decode(keyframe, threads, options):
    """Frames by number, from the keyframe of that ordinal on; and how many packets were refused."""
    frames, refused = {}, 0
    with av.open(path) as container:
        stream = container.streams.video[0]
        decoder = stream.codec_context
        stream.thread_type, decoder.thread_count, decoder.options = "AUTO", threads, options
        packets = [packet for packet in container.demux(stream) if packet.size]
        first = [place for place, packet in enumerate(packets) if packet.is_keyframe][keyframe]
        for packet in [*packets[first:], None]:
            try:
                decoded = decoder.decode(packet)
            except InvalidDataError:
                refused += 1
                continue
            frames |= {round(each.pts * stream.time_base * 30): each.to_ndarray().tobytes() for each in decoded}
    return frames, refused


right, _ = decode(0, 1, {})
strict = {"err_detect": "explode"}
print("from the start, strict:", [(frames == right, refused) for frames, refused in (decode(0, n, strict) for n in (1, 2))])
for threads in (1, 2):
    for name, options in (("lenient", {}), ("strict", strict)):
        frames, refused = decode(1, threads, options)
        print(threads, name, sum(frames.get(place) == right[place] for place in range(10, 40)), "of 30,", refused, "refused")
PYTHON

"$folder/venv/bin/python" "$folder/strict.py" "$folder/open.mp4" 2>"$folder/log" | tee "$folder/seen"
cat >"$folder/expected" <<'EXPECTED'
from the start, strict: [(True, 0), (True, 0)]
1 lenient 30 of 30, 0 refused
1 strict 30 of 30, 1 refused
2 lenient 30 of 30, 0 refused
2 strict 0 of 30, 29 refused
EXPECTED
diff "$folder/expected" "$folder/seen" || {
	echo "PyAV no longer behaves as described"
	exit 1
}
echo "as described"
