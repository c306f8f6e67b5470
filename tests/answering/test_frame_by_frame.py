"""Answers about files, whose frames are seen while others are decoded: stock's own, and nothing is left behind."""

from __future__ import annotations

import io
import threading
import weakref
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
import video_zoo as zoo
from specvlm.engine.stats import Span, Stats
from specvlm.errors import OptionError, VideoError
from specvlm.pipeline import SpecVLM
from specvlm.video import load
from specvlm.video.files.container import VideoFile
from specvlm.video.files.packets import needed
from specvlm.video.screening import screening

QUESTION = "what happens?"
GREEDY = {"max_new_tokens": 12, "do_sample": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("films")


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


@lru_cache
def pair(family: str = "llava_onevision") -> SpecVLM:
    target = tiny.model(family)
    return tiny.pair(target, tiny.noised(target, 0.01))


@pytest.fixture
def reels(monkeypatch: pytest.MonkeyPatch) -> list[screening.Reel]:
    """The reels that prompts were made of."""
    made, real = [], screening.Reel.tensor
    monkeypatch.setattr(screening.Reel, "tensor", lambda reel: made.append(reel) or real(reel))
    return made


@pytest.mark.part(2)
@pytest.mark.parametrize("asked", [{}, {"prefill_chunk": 5}, {"pruner": "attention"}, {"pruner": "features"}], ids=str)
@pytest.mark.parametrize("family", tiny.BUILDERS)
def test_answers_are_those_of_stock_generate(folder: Path, reels: list, family: str, asked: dict[str, Any]) -> None:
    from specvlm.pruning import PRUNERS

    if asked.get("pruner") == "features":
        asked = {"pruner": next(name for name, kind in PRUNERS.items() if kind.needs_features)}
    path = zoo.make(folder, "groups.mp4")
    for frames in ({"num_frames": 11}, {"fps": 6.0}):
        answer = pair(family).generate(path, QUESTION, **frames, **asked, **GREEDY)
        assert len(reels) == 1
        right = pair(family).autoregressive(path, QUESTION, **frames, **GREEDY)
        assert (answer.token_ids, answer.text) == (right.token_ids, right.text)
        assert answer.stats.num_prompt_tokens == right.stats.num_prompt_tokens
        reels.clear()


@pytest.mark.parametrize("name", ["raw.h264", "moving.gif", "refresh.mp4"])
def test_so_are_those_about_files_that_come_whole_or_not_as_promised(folder: Path, name: str) -> None:
    path = zoo.make(folder, name)
    for source in (path, path.read_bytes(), io.BytesIO(path.read_bytes())):
        answer = pair().generate(source, QUESTION, num_frames=7, **GREEDY)
        assert answer.token_ids == pair().autoregressive(path, QUESTION, num_frames=7, **GREEDY).token_ids


class Pipe(io.RawIOBase):
    """What can be read once."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._data.readinto(buffer)


def test_a_damaged_file_is_answered_by_what_is_left_of_it_and_says_so(folder: Path) -> None:
    spoiled = zoo.remux(
        zoo.make(folder, "groups.mkv"),
        folder / "spoiled.mkv",
        lambda number, packet: bytes(len(packet)) if number == 20 else bytes(packet),
    )
    clip = load(spoiled, num_frames=9)
    for source in (spoiled, Pipe(spoiled.read_bytes())):  # a pipe can't be read a second time
        answer = pair().generate(source, QUESTION, num_frames=9, **GREEDY)
        right = pair().autoregressive(spoiled, QUESTION, num_frames=9, **GREEDY)
        assert answer.token_ids == right.token_ids
        assert [each.split(": ", 1)[1] for each in answer.stats.damage] == [clip.damage]
        assert right.stats.damage == (f"{clip.name}: {clip.damage}",)
    watched = pair().watch(spoiled, num_frames=9)
    assert [watched.ask(each, **GREEDY).stats.damage for each in (QUESTION, "why?")] == [right.stats.damage] * 2
    assert pair().generate(zoo.make(folder, "groups.mkv"), QUESTION, num_frames=9, **GREEDY).stats.damage == ()


def test_damage_in_frames_that_are_needed_for_nothing_is_told_by_who_reads_straight(folder: Path) -> None:
    sound = zoo.write(folder / "sound.mp4", 40, options={"bf": "3", "g": "15", "sc_threshold": "0"})
    with sound.open("rb") as file:
        scan = VideoFile(file, "sound").scan()
    wanted = {scan.shown()[place].pts for place in pair().load_video(sound, num_frames=3).indices}
    unneeded = set(range(len(scan.packets))) - needed(scan.packets, wanted)

    spoiled = zoo.remux(sound, folder / "garbled.mp4", zoo.garbled(unneeded))
    asked = {"num_frames": 3, **GREEDY}
    by_default = pair().generate(spoiled, QUESTION, **asked)
    assert by_default.token_ids == pair().autoregressive(sound, QUESTION, **asked).token_ids
    assert by_default.stats.damage == ()
    right = pair().autoregressive(spoiled, QUESTION, video_backend="straight", **asked)
    assert "can't be decoded" in right.stats.damage[0]
    for ask in (partial(pair().generate, spoiled), pair().watch(spoiled, video_backend="straight", num_frames=3).ask):
        answer = ask(QUESTION, video_backend="straight", **asked)
        assert answer.token_ids == right.token_ids
        assert [each.split(": ", 1)[1] for each in answer.stats.damage] == [right.stats.damage[0].split(": ", 1)[1]]


def test_errors_are_those_of_a_video_that_is_read_whole(folder: Path) -> None:
    (folder / "plain.mp4").write_text("no video")
    with pytest.raises(VideoError, match="is a text file"):
        pair().generate(folder / "plain.mp4", QUESTION)
    with pytest.raises(VideoError, match="there is no file"):
        pair().generate(folder / "missing.mp4", QUESTION)
    with pytest.raises(OptionError, match="has its own times"):
        pair().generate(zoo.make(folder, "groups.mp4"), QUESTION, source_fps=3.0)
    with pytest.raises(OptionError, match="the question is empty"):
        pair().generate(zoo.make(folder, "groups.mp4"), " ")
    wide = zoo.write(folder / "wide.mp4", 4, size=(1608, 4))
    with pytest.raises(OptionError, match="refuses this prompt"):
        pair("qwen2_vl").generate(wide, QUESTION)


def test_a_file_that_breaks_while_it_is_read_is_a_video_error_and_is_left_as_it_was(folder: Path) -> None:
    class Broken(io.BytesIO):
        reads = 0

        def read(self, size: int | None = -1) -> bytes:
            if size and size > 0 and (self.tell() > 2_000) and self.reads > 12:
                raise OSError("the disk is gone")
            self.reads += 1
            return super().read(size)

    file = Broken(zoo.write(folder / "large.mp4", 60, size=(640, 360)).read_bytes())
    with pytest.raises(VideoError, match="the disk is gone"):
        pair().generate(file, QUESTION, num_frames=30)
    assert file.tell() == 0


def test_whoever_closes_an_answer_or_never_begins_it_leaves_nothing_behind(folder: Path) -> None:
    file = io.BytesIO(zoo.make(folder, "groups.mp4").read_bytes())
    before = threading.active_count()
    pair().stream(file, QUESTION)
    answer = pair().stream(file, QUESTION, num_frames=20, **GREEDY)
    next(answer)
    assert threading.active_count() == before  # not even while an answer is in flight
    assert file.tell() == 0
    answer.close()
    assert pair().generate(file, QUESTION, num_frames=20, max_new_tokens=0).token_ids == ()


def test_a_tower_that_fails_stops_the_decoder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(type(pair().target), "see", fail)
    file = io.BytesIO(zoo.make(folder, "groups.mp4").read_bytes())
    with pytest.raises(KeyboardInterrupt):
        pair().generate(file, QUESTION, num_frames=30)
    assert file.tell() == 0


def test_no_more_than_a_few_frames_are_in_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, most, real = [], [], screening.upright

    class Array(np.ndarray):
        """One that can be watched."""

    def watched(*arguments: Any) -> Any:
        pixels = real(*arguments).view(Array)
        held.append(weakref.ref(pixels))
        most.append(sum(each() is not None for each in held))
        return pixels

    monkeypatch.setattr(screening, "upright", watched)
    pair("qwen2_vl").generate(zoo.make(folder, "groups.mp4"), QUESTION, num_frames=40, max_new_tokens=2)
    assert len(most) == 41
    assert max(most) <= 10


def test_the_timeline_tells_what_was_done_beside_what(folder: Path) -> None:
    path = zoo.write(folder / "full.mp4", 120, size=(640, 360))
    stats = pair("qwen2_5_vl").generate(path, QUESTION, num_frames=60, **GREEDY).stats
    assert sum(stats.phases.values()) == pytest.approx(stats.total_seconds)
    names = {span.name for span in stats.timeline}
    assert names >= {"decode_video", "preprocess", "vision_target", "prefill_target", "prefill_draft", "rounds"}
    assert all(0 <= span.start < span.end <= stats.total_seconds + 1e-3 for span in stats.timeline)
    spans = {name: [span for span in stats.timeline if span.name == name] for name in names}
    assert together(spans["decode_video"], spans["preprocess"] + spans["vision_target"]) > 0
    assert max(span.end for span in spans["prefill_target"]) <= stats.ttft_seconds
    assert spans["rounds"][0].start >= stats.ttft_seconds


def test_prompts_that_are_read_in_pieces_are_read_while_frames_are_decoded(folder: Path) -> None:
    path = zoo.write(folder / "full.mp4", 120, size=(640, 360))
    asked = {"num_frames": 60, "prefill_chunk": 16}
    stats = pair("qwen2_5_vl").generate(path, QUESTION, **asked, **GREEDY).stats
    ends = {
        name: [span.end for span in stats.timeline if span.name == name] for name in ("vision_target", "prefill_target")
    }
    assert min(ends["prefill_target"]) < max(ends["vision_target"])


def together(some: list[Span], others: list[Span]) -> float:
    """Seconds in which some of both are."""
    return sum(max(0.0, min(a.end, b.end) - max(a.start, b.start)) for a in some for b in others)


def test_what_is_drawn_is_what_no_inner_phase_took() -> None:
    stats = Stats()
    with stats.phase("vision_target"):
        with stats.phase("decode_video", is_drawn=False):
            pass
        with stats.phase("preprocess"):
            threading.Event().wait(0.005)
    stats.decode_begins()
    stats.finish(1)
    drawn = {span.name: span.end - span.start for span in stats.timeline}
    assert drawn.keys() <= {"vision_target", "preprocess", "rounds"}
    assert drawn["preprocess"] == pytest.approx(stats.phases["preprocess"])
    assert stats.phases["preprocess"] > 0.004 > stats.phases["vision_target"]
    assert sum(stats.phases.values()) == pytest.approx(stats.total_seconds)
