"""Video: frames to look at, and when they are shown."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from specvlm.errors import VideoError
from specvlm.video.sampling import Rate, Sampling, Timeline


@dataclass(frozen=True, slots=True, eq=False)
class Video:
    """T frames of H x W pixels, RGB, upright. Immutable: the arrays are read-only, so copy before you write or
    before `torch.from_numpy`, which warns about read-only memory.

    `timestamps` are the exact presentation times in seconds since the first frame of the source, increasing;
    None where the source has no clock (an array, a folder of pictures). `duration`, in seconds, is that of the
    whole source, and `source_fps` its average frame rate; None where unknown. `name` is for messages. `damage` is
    None for a sound file; otherwise one line that says what was found missing. The frames are then those that can
    be decoded; one that was predicted from a lost frame may show traces of that.
    """

    frames: UInt8[np.ndarray, "T H W 3"]
    timestamps: Float64[np.ndarray, " T"] | None = None
    duration: float | None = None
    source_fps: Rate | None = None
    name: str = "video"
    damage: str | None = None

    def __post_init__(self) -> None:
        if self.frames.ndim != 4 or self.frames.shape[-1] != 3 or self.frames.dtype != np.uint8:
            raise VideoError(
                f"{self.name}: frames must be uint8 of shape [T, H, W, 3], "
                f"not {self.frames.dtype} of shape {list(self.frames.shape)}"
            )
        if 0 in self.frames.shape:
            raise VideoError(f"{self.name} holds no frames: its shape is {list(self.frames.shape)}")
        if self.timestamps is not None and (
            self.timestamps.shape != self.frames.shape[:1] or not (np.diff(self.timestamps) > 0).all()
        ):
            raise VideoError(f"{self.name}: timestamps must be increasing, and one for each frame")
        for field in ("frames", "timestamps"):
            array = getattr(self, field)
            if array is not None:
                view = array.view()
                view.flags.writeable = False
                object.__setattr__(self, field, view)

    @property
    def fps(self) -> float | None:
        """Frames a second among these frames, on average. None for a single frame or without a clock."""
        return Timeline(len(self.frames), self.timestamps, self.duration).fps

    @classmethod
    def chosen(
        cls,
        frames: UInt8[np.ndarray, "T H W 3"],
        timeline: Timeline,
        indices: Int64[np.ndarray, " T"],
        name: str,
        damage: str | None = None,
    ) -> Video:
        """The frames that stand at `indices` of a source's timeline."""
        timestamps = None if timeline.seconds is None else timeline.seconds[indices]
        return cls(frames, timestamps, timeline.duration, timeline.fps, name, damage)

    def sampled(self, sampling: Sampling) -> Video:
        """The frames that `sampling` chooses among these."""
        chosen = sampling.choose(Timeline(len(self.frames), self.timestamps, self.duration))
        if len(chosen) == len(self.frames):
            return self
        timestamps = None if self.timestamps is None else self.timestamps[chosen]
        return replace(self, frames=self.frames[chosen], timestamps=timestamps)
