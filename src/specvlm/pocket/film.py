"""A scene as an mp4 file, as a camera and a codec would have it."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from specvlm.pocket import SIGNED, lamp, world
from specvlm.pocket.world import Scene


def write_mp4(
    scene: Scene, path: Path | str, *, size: int = 288, fps: int = 24, seconds: float = 4.0, lit: bool = False
) -> None:
    """Write a film of `size` x `size` pixels (even) as H.264 in yuv420p, `round(fps * seconds)` frames long, signed
    as one of this world; `lit`: as `lamp` renders it."""
    render = lamp.render if lit else world.render
    num_frames = round(fps * seconds)
    with av.open(str(path), "w") as container:
        container.metadata["comment"] = SIGNED
        stream = container.add_stream("libx264", rate=fps, options={"crf": "18"})
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1  # on another number of cores x264 makes another film
        for moment in np.arange(num_frames) / num_frames:
            frame = av.VideoFrame.from_ndarray(render(scene, [moment], size)[0], format="rgb24")
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
