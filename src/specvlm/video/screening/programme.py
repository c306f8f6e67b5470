"""What an audience is told before it is shown anything, and what it promises."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64, UInt8

from specvlm.video.clip import Video
from specvlm.video.files.container import BinaryFile
from specvlm.video.pixels import Wall
from specvlm.video.sampling import Rate, Timeline


@dataclass(frozen=True, slots=True, eq=False)
class Programme:
    """What is known of a video before its first frame is decoded. Each different frame of those `chosen` will be shown
    once, in order; `rows` say for each of the chosen which of them it is."""

    timeline: Timeline
    chosen: Int64[np.ndarray, " chosen"]
    rows: Int64[np.ndarray, " chosen"]
    name: str
    damage: str | None = None
    comment: str | None = None
    source_fps: Rate | None = None
    """Of pictures, whose clock was given to them."""

    @property
    def num_shown(self) -> int:
        return int(self.rows[-1]) + 1

    def video(self, frames: UInt8[np.ndarray, "chosen H W 3"]) -> Video:
        """All of it, with pixels."""
        video = Video.chosen(frames, self.timeline, self.chosen, self.name, self.damage)
        return replace(video, comment=self.comment, source_fps=self.source_fps or video.source_fps)


@runtime_checkable
class Audience(Protocol):
    """Who is shown frames while others are still being decoded."""

    @property
    def ahead(self) -> int:
        """Frames that may wait to be looked at."""
        ...

    def attending(self, file: BinaryFile) -> BinaryFile:
        """The same file, for as long as somebody is there: reading it ends, by an error, when nobody is."""
        ...

    def told(self, programme: Programme) -> Wall:
        """What comes, and where it shall hang."""
        ...
