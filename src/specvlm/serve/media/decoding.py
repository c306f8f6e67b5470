"""Decoding in a process apart, which can be ended: no file of a stranger takes longer, or more memory, than it may.

A container of a few bytes can make a decoder work for hours. Nothing ends a thread, but a process can be killed; and if
a decoder of FFmpeg's falls over, it is that process which dies. It is started once, and anew wherever it had to end.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import UInt8

from specvlm.errors import OptionError, SpecVLMError, VideoError
from specvlm.serve.settings import Settings
from specvlm.serve.turn import check
from specvlm.video import Video, load, load_image
from specvlm.video.files.container import VideoFile, blaming
from specvlm.video.files.doors import binary
from specvlm.video.sampling import Choose, Timeline

Content = bytes | Path | tuple[bytes, ...]
"""A file's bytes, a file of this machine, or pictures in a row."""

TICK = 0.1
"""Seconds after which whoever waits for a decoder asks whether anybody still waits for it."""
PATIENCE = 2.0
"""Seconds for which a decoder goes on for nobody, since to start another one takes longer."""
START_SECONDS = 120.0
"""For the process to import what it needs."""
MEMORY = 6 * 2**30
"""Bytes that it may take."""

READY, TIMELINE, DONE, WRONG = "ready", "timeline", "done", "wrong"


@final
class Decoder:
    """A process that decodes, one video at a time. May be used by several threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._process: Any = None
        self._line: Connection | None = None

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.join()
            self._line.close()  # type: ignore[union-attr]

    def warm_up(self) -> None:
        """Start the process, so that no video waits for that."""
        with self._alone():
            self._started()

    def video(self, content: Content, choose: Choose, how: Mapping[str, Any] | None = None) -> Video:
        """The frames that a rule chooses, which is asked here; read as `how` tells `video.load`. Errors: OptionError,
        VideoError; what `turn.check` raises."""
        return Video(**self._asked(("video", content, dict(how or {})), choose))

    def image(self, content: Content) -> UInt8[np.ndarray, "H W 3"]:
        """Errors: as `video`."""
        return self._asked(("image", content, {}))

    def _asked(self, question: tuple[str, Content, dict[str, Any]], choose: Choose | None = None) -> Any:
        with self._alone():
            line = self._started()
            end = time.monotonic() + self._settings.decode_seconds
            line.send((*question, self._settings.max_frame_pixels, self._settings.max_pixels))
            while (heard := self._heard(end))[0] == TIMELINE:
                assert choose is not None
                try:
                    line.send(choose(heard[1]))
                except SpecVLMError as error:
                    line.send(error)  # it raises it there, and is told of it here
        kind, told = heard
        if kind == WRONG:
            raise told
        return told

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """What is raised inside ends the process: nobody knows what it is at."""
        while not self._lock.acquire(timeout=TICK):
            check()
        try:
            yield
        except BaseException:
            self.close()
            raise
        finally:
            self._lock.release()

    def _started(self) -> Connection:
        if self._process is None or not self._process.is_alive():
            self.close()
            spawn = multiprocessing.get_context("spawn")
            self._line, theirs = spawn.Pipe()
            self._process = spawn.Process(target=work, args=(theirs,), daemon=True, name="specvlm-decoder")
            self._process.start()
            theirs.close()
            kind, _ = self._heard(time.monotonic() + START_SECONDS)
            assert kind == READY
        assert self._line is not None
        return self._line

    def _heard(self, end: float) -> Any:
        """What it says next. Errors: VideoError, if it takes too long or falls over."""
        line: Any = self._line
        begun = time.monotonic()
        try:
            while not line.poll(TICK):
                if (now := time.monotonic()) > end:
                    most = self._settings.decode_seconds
                    raise VideoError(f"the video takes more than {most:g} seconds to decode")
                if now - begun > PATIENCE:
                    check()
            return line.recv()
        except (EOFError, OSError):
            raise VideoError("the video can't be decoded: its decoder fell over") from None


def work(line: Connection) -> None:
    """What the process does: decode what it is sent, until nobody is at the other end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which then ends this
    _limit_memory()
    line.send((READY, None))
    with suppress(EOFError, OSError):
        while True:
            kind, content, how, frame_pixels, all_pixels = line.recv()
            try:
                found = (DONE, _worked(line, kind, content, how, frame_pixels, all_pixels))
            except SpecVLMError as error:
                found = (WRONG, error)
            except MemoryError:
                found = (WRONG, VideoError("the video takes more memory to decode than it may"))
            line.send(found)
            del content, found


def _worked(
    line: Connection, kind: str, content: Content, how: dict[str, Any], frame_pixels: int, all_pixels: int
) -> Any:
    source = content.read_bytes() if isinstance(content, Path) else content  # by no name: messages say it
    size = _pixels_by_head(source) if isinstance(source, bytes) else 0
    _require(size, frame_pixels, "a frame")
    if kind == "image":
        picture = load_image(source[0] if isinstance(source, tuple) else source)
        _require(picture.shape[0] * picture.shape[1], frame_pixels, "an image")
        return picture

    def choose(timeline: Timeline) -> Any:
        line.send((TIMELINE, timeline))
        chosen = line.recv()
        if isinstance(chosen, SpecVLMError):
            raise chosen
        _require(len(chosen) * size, all_pixels, "all frames together")
        return chosen

    video = load(list(source) if isinstance(source, tuple) else source, choose=choose, **how)
    _, height, width, _ = video.frames.shape
    _require(height * width, frame_pixels, "a frame")
    _require(len(video.frames) * height * width, all_pixels, "all frames together")
    names = ("frames", "timestamps", "duration", "source_fps", "name", "damage", "indices", "total_frames", "comment")
    return {name: getattr(video, name) for name in names}


def _pixels_by_head(content: bytes) -> int:
    """What the head of a file says of the size of its frames; 0 if nothing."""
    with (
        suppress(VideoError),
        binary(content, "video") as (file, name),
        blaming(name),
        VideoFile(file, name).opened() as (_, stream),
    ):
        return stream.codec_context.width * stream.codec_context.height
    return 0


def _require(pixels: int, most: int, what: str) -> None:
    if pixels > most:
        raise OptionError(f"{what} may have {most} pixels here, not {pixels}")


def _limit_memory() -> None:
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
