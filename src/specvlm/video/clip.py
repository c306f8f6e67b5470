"""Video: frames to look at, and when they are shown."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64, UInt8
from torch import Tensor

from specvlm.errors import VideoError
from specvlm.video.sampling import Choose, Rate, Timeline, average_rate

SAME_PLACE = 1e-6
"""A frame whose time is this near to a whole number of frames stands there: what is left is rounding."""


@dataclass(frozen=True, slots=True, eq=False)
class Video:
    """T frames of H x W pixels, RGB, upright. Immutable: the arrays are read-only, so copy before you write or
    before `torch.from_numpy`, which warns about read-only memory.

    `timestamps` are the exact presentation times in seconds since the first frame of the source; None where the
    source has no clock (an array, a folder of pictures). `duration`, in seconds, is that of the whole source, and
    `source_fps` its average frame rate; None where unknown. `indices` say which of the source's `total_frames` frames
    these are, counted from 0 in order of presentation; they increase, and so do the times, except where a rule chose a
    frame twice. Left out, these frames are all there are. `name` is for messages. `damage` is None for a sound file;
    otherwise one line that says what was found missing. The frames are then those that can be decoded; one that was
    predicted from a lost frame may show traces of that. `comment` is what the file says of itself, if it does.
    """

    frames: UInt8[np.ndarray, "T H W 3"]
    timestamps: Float64[np.ndarray, " T"] | None = None
    duration: float | None = None
    source_fps: Rate | None = None
    name: str = "video"
    damage: str | None = None
    indices: Int64[np.ndarray, " T"] = field(default_factory=lambda: np.zeros(0, np.int64))
    total_frames: int = 0
    comment: str | None = None

    def __post_init__(self) -> None:
        if self.frames.ndim != 4 or self.frames.shape[-1] != 3 or self.frames.dtype != np.uint8:
            raise VideoError(
                f"{self.name}: frames must be uint8 of shape [T, H, W, 3], "
                f"not {self.frames.dtype} of shape {list(self.frames.shape)}"
            )
        if 0 in self.frames.shape:
            raise VideoError(f"{self.name} holds no frames: its shape is {list(self.frames.shape)}")
        if len(self.indices) == 0:
            object.__setattr__(self, "indices", np.arange(len(self.frames)))
        if self.total_frames == 0:
            object.__setattr__(self, "total_frames", int(self.indices[-1]) + 1)
        steps = np.diff(self.indices, prepend=0, append=self.total_frames - 1)
        if self.indices.shape != self.frames.shape[:1] or (steps < 0).any():
            raise VideoError(
                f"{self.name}: indices must be one for each frame, from 0 to {self.total_frames - 1}, and never fall"
            )
        if self.timestamps is not None and (
            self.timestamps.shape != self.frames.shape[:1]
            or not np.array_equal(np.sign(np.diff(self.timestamps)), np.sign(np.diff(self.indices)))
        ):
            raise VideoError(f"{self.name}: timestamps must be one for each frame, and increase from one to the next")
        for name in ("frames", "timestamps", "indices"):
            array = getattr(self, name)
            if array is not None:
                view = array.view()
                view.flags.writeable = False
                object.__setattr__(self, name, view)

    @property
    def num_frames(self) -> int:
        return len(self.frames)

    @property
    def fps(self) -> float | None:
        """Frames a second among these frames, on average. None for a single frame or without a clock."""
        return None if self.timestamps is None else average_rate(self.timestamps)

    def tensor(self) -> UInt8[Tensor, "T 3 H W"]:
        """The frames as processors take them: no copy, as far as their strides allow, so don't write to it."""
        frames = np.ascontiguousarray(self.frames)
        return torch.from_numpy(np.asarray(_Unsealed(frames))).permute(0, 3, 1, 2)

    def metadata(self) -> dict[str, Any]:
        """What transformers calls `video_metadata`, for processors that are called with `do_sample_frames=False`.

        A processor takes frame i to be shown at `frames_indices[i] / fps` seconds, and the whole to last
        `total_num_frames / fps`: both hold here. At a constant rate the indices are whole numbers, those that
        transformers' own readers give; at a variable one they are what puts each frame at its real time. Without a
        clock `fps` is None, for which transformers assumes 24.
        """
        fps: Rate | None = None
        places: list[int | float] = self.indices.tolist()
        if self.timestamps is not None and (fps := self.source_fps or average_rate(self.timestamps, self.indices)):
            fps = float(fps)
            times = (self.timestamps * fps).tolist()
            places = [
                index if abs(time - index) <= SAME_PLACE else time
                for index, time in zip(self.indices.tolist(), times, strict=True)
            ]
        _, height, width, _ = self.frames.shape
        return {
            "total_num_frames": self.total_frames,
            "fps": fps,
            "frames_indices": places,
            "duration": self.duration,
            "width": width,
            "height": height,
        }

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
        fps = timeline.fps
        return cls(frames, timestamps, timeline.duration, fps, name, damage, indices, timeline.num_frames)

    def sampled(self, choose: Choose) -> Video:
        """The frames that a rule chooses among these."""
        chosen = choose(Timeline(len(self.frames), self.timestamps, self.duration))
        if np.array_equal(chosen, np.arange(len(self.frames))):
            return self
        timestamps = None if self.timestamps is None else self.timestamps[chosen]
        return replace(self, frames=self.frames[chosen], timestamps=timestamps, indices=self.indices[chosen])


class _Unsealed:
    """The memory of an array that is read-only, for torch: it knows no such thing, and warns."""

    def __init__(self, array: UInt8[np.ndarray, "..."]) -> None:
        self._array = array
        place, _ = array.__array_interface__["data"]
        self.__array_interface__ = {**array.__array_interface__, "data": (place, False)}
