"""Two hours of film: no more of it is in memory at once than the frames that were asked for and a few in flight."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

import video_zoo as zoo

HOURS = 2
SIZE = (320, 240)
FRAME_BYTES = SIZE[0] * SIZE[1] * 3
NUM_FRAMES = HOURS * 3600 * zoo.RATE
GROUP = 300
NUM_WANTED = 48

MOST = 2**27
"""Bytes that reading it may take, with libraries warm: less than a hundredth of its frames, and 580 of them."""

READING = """
import json, resource, sys
from specvlm.video import load
from specvlm.video.backends import pyav
pyav.cores = lambda: int(sys.argv[3])
load(sys.argv[1], num_frames=4, backend="pyav")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
video = load(sys.argv[2], num_frames=int(sys.argv[4]), backend="pyav")
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
unit = 1 if sys.platform == "darwin" else 1024
print(json.dumps([(after - before) * unit, video.total_frames, video.indices.tolist(), video.frames[1:3].tolist()]))
"""


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One group of frames, ten seconds."""
    path = tmp_path_factory.mktemp("short") / "short.mp4"
    options = {"preset": "ultrafast", "x264-params": f"keyint={GROUP}:scenecut=0:bframes=2:qp=40"}
    return zoo.write(path, GROUP, size=SIZE, options=options)


@pytest.fixture(scope="module")
def long(short: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its packets, again and again."""
    path = tmp_path_factory.mktemp("long") / "long.mkv"
    with av.open(str(short)) as reader, av.open(str(path), "w") as writer:
        stream = reader.streams.video[0]
        copy = writer.add_stream_from_template(stream)
        coded = [
            (bytes(packet), packet.pts, packet.dts, packet.is_keyframe)
            for packet in reader.demux(stream)
            if packet.size
        ]
        step = round(1 / (zoo.RATE * stream.time_base))
        for turn in range(NUM_FRAMES // GROUP):
            for data, pts, dts, is_key in coded:
                packet = av.Packet(data)
                packet.time_base, packet.is_keyframe, packet.stream = stream.time_base, is_key, copy
                packet.pts, packet.dts = pts + turn * GROUP * step, dts + turn * GROUP * step
                writer.mux(packet)
    return path


@pytest.mark.part(2)
@pytest.mark.parametrize("num_cores", [1, 4])
def test_two_hours_take_no_more_memory_than_a_few_frames(num_cores: int, short: Path, long: Path) -> None:
    assert MOST < NUM_FRAMES * FRAME_BYTES / 100
    done = subprocess.run(
        [sys.executable, "-c", READING, short, long, str(num_cores), str(NUM_WANTED)],
        capture_output=True,
        text=True,
        check=True,
    )
    taken, total, indices, some = json.loads(done.stdout)
    assert total == NUM_FRAMES
    assert len(indices) == NUM_WANTED
    right, _ = zoo.decode_all(short)
    assert np.array_equal(some, right[[place % GROUP for place in indices[1:3]]])
    assert taken < MOST
