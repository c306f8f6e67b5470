"""What reading a video leaves behind: the frames that were asked for, once, and nothing else."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tiny
import video_zoo as zoo
from specvlm.errors import VideoError
from specvlm.video import Video, load

WIDE, HIGH = 1920, 1088
LINUX = sys.platform == "linux"


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Large frames, and few bytes."""
    path = tmp_path_factory.mktemp("films") / "large.mp4"
    return zoo.write(path, 24, size=(WIDE, HIGH), options={"preset": "ultrafast", "g": "8"})


@contextmanager
def nothing_collected() -> Iterator[None]:
    """What happens if the garbage collector doesn't come."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def threads() -> int:
    """Of this process, those of FFmpeg among them; where the system tells."""
    return len(os.listdir("/proc/self/task")) if LINUX else threading.active_count()  # noqa: PTH208


def resident() -> int:
    """Bytes of memory that this process has now; where the system tells."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if LINUX else 0


def test_no_thread_and_no_memory_waits_for_the_garbage_collector(film: Path) -> None:
    load(film, num_frames=4, backend="pyav")
    with nothing_collected():
        threads_before, before = threads(), resident()
        for _ in range(4):
            load(film, num_frames=8, backend="pyav")
        assert threads() <= threads_before
        assert resident() - before < 8 * WIDE * HIGH * 3
        assert gc.collect() < 100


def test_nor_does_it_after_an_error(film: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    data = bytearray(film.read_bytes())
    start = data.index(b"mdat") + 4
    data[start : start + len(data) // 2] = bytes(len(data) // 2)
    broken.write_bytes(data)
    with nothing_collected():
        threads_before = threads()
        for _ in range(3):
            with suppress(VideoError):
                load(broken, num_frames=8, backend="pyav")
        assert threads() <= threads_before


@pytest.mark.parametrize("family", tiny.BUILDERS)
def test_processors_are_given_the_very_frames(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tiny.family(tiny.model(family, 0, layers=1))
    video, given = tiny.film(4, 1), []
    call = type(made.processor).__call__
    monkeypatch.setattr(
        type(made.processor), "__call__", lambda self, *a, **kw: given.extend(kw["videos"]) or call(self, *a, **kw)
    )
    before = video.frames.copy()
    made.prepare([video], "what happens?")
    assert [tensor.data_ptr() for tensor in given] == [video.frames.ctypes.data]
    assert np.array_equal(video.frames, before)


def test_a_tensor_of_frames_outlives_them_in_any_order_of_memory() -> None:
    frames = np.arange(2 * 4 * 6 * 3, dtype=np.uint8).reshape(2, 4, 6, 3)
    tensor = Video(frames[::-1, :, ::-1].copy()[::-1, :, ::-1]).tensor()
    gc.collect()
    assert np.array_equal(tensor.permute(0, 2, 3, 1).numpy(), frames)


def test_pictures_of_a_folder_are_held_once(tmp_path: Path) -> None:
    for number in range(8):
        Image.fromarray(zoo.picture(number, WIDE, HIGH)).save(tmp_path / f"{number}.bmp")
    load(tmp_path, num_frames=1)
    tracemalloc.start()
    try:
        frames = load(tmp_path, num_frames=8).frames
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert zoo.indices_of(frames) == list(range(8))
    assert most < 1.6 * frames.nbytes


FORKING = """
import gc, os, sys
from specvlm.video import load
gc.disable()
load(sys.argv[1], num_frames=8, backend="pyav")
child = os.fork()
if child == 0:
    gc.collect()
    os._exit(len(load(sys.argv[1], num_frames=3, backend="pyav").frames))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_child_does_not_wait_for_threads_that_it_has_not_got(film: Path) -> None:
    """As the workers of a torch DataLoader are."""
    with subprocess.Popen(
        [sys.executable, "-c", FORKING, str(film)], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as parent:
        try:
            said, _ = parent.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(parent.pid, signal.SIGKILL)
            raise
    assert said == "3\n"
