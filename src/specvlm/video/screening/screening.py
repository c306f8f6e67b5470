"""Screening: a video decoded in a thread of its own, frame by frame, while those that came before are looked at."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8
from torch import Tensor

from specvlm.video.clip import Video
from specvlm.video.files.container import BinaryFile, blaming
from specvlm.video.pixels import upright
from specvlm.video.room import require_all
from specvlm.video.screening.programme import Audience, Programme

AHEAD = 8
"""Frames that may wait to be looked at: so many are in memory, however long the video."""

MOST_WAITING = 1 << 27
"""Pixels of all frames that may wait: pictures of 64 megapixels come two at a time."""

Picture = np.ndarray
"""`[H, W, 3]` uint8."""


class Void(Exception):  # noqa: N818 (it is no fault, and never leaves specvlm)
    """What was shown is not what the file holds after all: `video` is."""

    def __init__(self, video: Video) -> None:
        super().__init__(f"what was shown of {video.name} is void")
        self.video = video


class _NobodyIsThere(Exception):  # noqa: N818 (it ends the thread, and never leaves it)
    """The audience has left."""


@final
@dataclass(frozen=True, eq=False)
class Reel:
    """A video whose frames are still to come: a `Video` to all who don't look at pixels."""

    outline: Video
    """Everything but its pixels, which are black and take no memory."""

    @property
    def num_frames(self) -> int:
        return self.outline.num_frames

    @property
    def name(self) -> str:
        return self.outline.name

    @property
    def damage(self) -> str | None:
        return self.outline.damage

    @property
    def comment(self) -> str | None:
        return self.outline.comment

    def tensor(self) -> Tensor:
        """`[T, 3, H, W]` uint8 without values, on the device "meta"."""
        frames, height, width, colours = self.outline.frames.shape
        return torch.empty(frames, colours, height, width, dtype=torch.uint8, device="meta")

    def metadata(self) -> dict[str, Any]:
        return self.outline.metadata()


Clip = Video | Reel


@final
class Screening:
    """A context, within which a thread decodes. At its end the thread has ended, and what it opened is closed.

    What goes wrong in the thread is raised where frames are taken, as it is.
    """

    def __init__(
        self,
        load: Callable[[Audience], Video | None],
        on_work: Callable[[float, float], None] = lambda start, end: None,
        ahead: int = AHEAD,
    ) -> None:
        """`load` is `loading.load_before`, but for the audience. `on_work` is told by the thread, each time it had to
        wait and when it ends, from when to when it worked, by the clock `time.perf_counter`."""
        self._load, self._on_work, self.ahead = load, on_work, ahead
        self._ahead = ahead
        self._thread = threading.Thread(target=self._run, name="specvlm decodes", daemon=True)
        self._change = threading.Condition()
        self._programme: Programme | None = None
        self._size: tuple[int, int] | None = None
        self._hanging: dict[int, VideoFrame] = {}
        self._hung: set[int] = set()
        self._next = 0
        self._video: Video | None = None
        self._error: BaseException | None = None
        self._has_ended = self._is_over = self._is_void = False
        self._reformatter = VideoReformatter()
        self._works_since: dict[int, float] = {}
        """For each thread that decodes, from when on it has."""
        self._begun = 0.0

    def __enter__(self) -> Screening:
        self._begun = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._change:
            self._is_over = True
            self._hanging.clear()
            self._change.notify_all()
        self._thread.join()

    def opening(self) -> Video | Reel:
        """What is known when the first frame has come; the whole video where frames don't come one by one."""
        with self._change:
            self._change.wait_for(lambda: self._has_ended or self._hanging)
            if self._error is not None:
                raise self._error
            if self._video is not None:
                return self._video
            [first, *_] = self._hanging.values()
        assert self._programme is not None
        blank = np.broadcast_to(np.zeros(3, np.uint8), (len(self._programme.chosen), *self._upright(first).shape))
        return Reel(self._programme.video(blank))

    def frames(self) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        """The frames of a reel, in order, each when it has come. The last only when all are known to be right.

        Errors: Void; those of the thread.
        """
        assert self._programme is not None
        rows = self._programme.rows.tolist()
        picture = None
        for place, row in enumerate(rows):
            if place == 0 or row != rows[place - 1]:
                picture = self._take(row)
            assert picture is not None
            yield picture

    def _take(self, row: int) -> Picture:
        assert self._programme is not None
        is_last = row == self._programme.num_shown - 1
        with self._change:
            self._change.wait_for(lambda: self._has_ended or (row in self._hanging and not is_last))
            if self._error is not None:
                raise self._error
            if self._video is not None:
                raise Void(self._video)
            self._next = row + 1
            self._change.notify_all()
            frame = self._hanging.pop(row)
        if is_last:
            self._thread.join()
        return self._upright(frame)

    def _upright(self, frame: VideoFrame) -> Picture:
        assert self._programme is not None
        assert self._size is not None
        with blaming(self._programme.name):
            return upright(frame, *self._size, self._reformatter)

    # What follows is done by the thread, and `hang` by those that decode for it.

    def _run(self) -> None:
        video = error = None
        try:
            video = self._load(self)
        except BaseException as caught:  # noqa: BLE001 (raised again where frames are taken)
            error = caught
        with self._change:
            self._video, self._error, self._has_ended = video, error, True
            for since in self._works_since.values() or [self._begun]:
                self._on_work(since, time.perf_counter())
            if error is not None or video is not None:
                self._hanging.clear()
            self._change.notify_all()

    def attending(self, file: BinaryFile) -> BinaryFile:
        return _Attended(file, self._require_somebody)

    def told(self, programme: Programme) -> Screening:
        self._programme = programme
        return self

    def hang(self, row: int, frame: VideoFrame, reformatter: VideoReformatter) -> bool:
        """Not if its size isn't that of the others: which of them came first, and so has a say, is known when all
        came."""
        programme, size, thread = self._programme, (frame.width, frame.height), threading.get_ident()
        assert programme is not None
        with self._change:
            if row in self._hung:
                return True  # again, by what leads a keyframe: the run before had it whole
            if self._size is None:
                require_all(len(programme.chosen), *size, programme.name)
                self._size, self._ahead = size, max(1, min(self.ahead, MOST_WAITING // max(1, size[0] * size[1])))
            self._works_since.setdefault(thread, self._begun)
            if not self._may_hang(row):
                self._on_work(self._works_since[thread], time.perf_counter())
                self._change.wait_for(lambda: self._may_hang(row))
                self._works_since[thread] = time.perf_counter()
            self._require_somebody()
            if self._is_void or size != self._size:
                return False
            self._hanging[row] = frame
            self._hung.add(row)
            self._change.notify_all()
        return True

    def give_up(self) -> None:
        with self._change:
            self._is_void = True
            self._change.notify_all()

    @property
    def is_full(self) -> bool:
        return self._programme is not None and len(self._hung) == self._programme.num_shown

    def _may_hang(self, row: int) -> bool:
        return self._is_over or self._is_void or row < self._next + self._ahead

    def _require_somebody(self) -> None:
        if self._is_over:
            raise _NobodyIsThere


@final
class _Attended:
    """A file to be read while somebody is there."""

    def __init__(self, file: BinaryFile, require_somebody: Callable[[], None]) -> None:
        self._file, self._require_somebody = file, require_somebody
        self.seek, self.tell = file.seek, file.tell
        self.raw = getattr(file, "raw", file)

    def read(self, size: int = -1, /) -> bytes:
        self._require_somebody()
        return self._file.read(size)
