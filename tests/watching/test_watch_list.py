"""Many videos in bounded memory: what is known of a video is used again, and the oldest is forgotten first."""

from __future__ import annotations

import gc
import threading
from functools import lru_cache
from typing import Any

import pytest

import tiny
from specvlm import WatchList
from specvlm.errors import OptionError, VideoError
from specvlm.pipeline import SpecVLM
from specvlm.video import Video
from specvlm.watching.watch_list import MAX_EMPTY
from watching.many_questions import watcher

SHORT: dict[str, Any] = {"max_new_tokens": 6}
QUESTION = "what happens?"
PLENTY = 1 << 30


def film(seed: int) -> Video:
    return tiny.film(6, seed)


@lru_cache
def right(seed: int) -> tuple[int, ...]:
    return watcher().generate(film(seed), QUESTION, **SHORT).token_ids


@lru_cache
def size() -> int:
    """Bytes that are kept of one video."""
    watched = watcher().watch(film(1), **SHORT)
    watched.ask(QUESTION)
    return watched.nbytes


def knows(videos: WatchList, seed: int) -> bool:
    """Whether a question about a video, which is then answered, finds it known."""
    answer = videos.watch(film(seed), **SHORT).ask(QUESTION)
    assert answer.token_ids == right(seed)
    return "decode_video" not in answer.stats.phases


def test_the_same_video_is_known_whoever_brings_it() -> None:
    videos = WatchList(watcher(), PLENTY)
    assert [knows(videos, seed) for seed in (1, 1, 2, 1, 2)] == [False, True, False, True, True]
    assert len(videos) == 2
    assert 1.9 * size() < videos.nbytes < 2.1 * size()


def test_a_video_seen_otherwise_is_another_one() -> None:
    videos = WatchList(watcher(), PLENTY)
    answers = [videos.watch(film(1), num_frames=n, **SHORT).ask(QUESTION) for n in (6, 4, 6)]
    assert ["decode_video" in answer.stats.phases for answer in answers] == [True, True, False]
    assert answers[1].stats.num_video_tokens < answers[0].stats.num_video_tokens
    assert len(videos) == 2


def test_those_asked_about_least_recently_go_first() -> None:
    videos = WatchList(watcher(), int(2.5 * size()))
    for seed in (1, 2, 1, 3):  # and so the second one goes
        knows(videos, seed)
    assert len(videos) == 2
    assert videos.nbytes <= videos.max_bytes
    assert [knows(videos, seed) for seed in (3, 1, 2)] == [True, True, False]


def test_what_is_too_large_by_itself_is_not_kept() -> None:
    videos = WatchList(watcher(), 0)
    assert [knows(videos, 1) for _ in range(2)] == [False, False]
    videos.watch(film(1), **SHORT).autoregressive(QUESTION)  # of which pixels would be left
    assert (len(videos), videos.nbytes) == (0, 0)


def test_who_watched_a_video_that_was_forgotten_may_go_on() -> None:
    videos = WatchList(watcher(), int(1.5 * size()))
    watched = videos.watch(film(1), **SHORT)
    watched.ask(QUESTION)
    assert not knows(videos, 2)
    answer = watched.ask(QUESTION)
    assert answer.token_ids == right(1)
    assert "decode_video" in answer.stats.phases
    assert knows(videos, 1)
    watched.forget()
    assert (len(videos), watched.nbytes) == (0, 0)


@pytest.mark.parametrize("how", ["closed", "dropped"])
def test_answers_that_are_given_up_leave_no_more_than_others(how: str) -> None:
    videos = WatchList(watcher(), int(1.5 * size()))
    streams = [videos.watch(film(seed), **SHORT).stream(QUESTION) for seed in (1, 2, 3)]
    for stream in streams:
        next(stream)
    assert videos.nbytes > videos.max_bytes  # answers in flight
    for stream in streams if how == "closed" else ():
        stream.close()
    del stream, streams
    gc.collect()
    assert 0 < videos.nbytes <= videos.max_bytes
    assert knows(videos, 3)


def test_an_answer_may_be_collected_at_any_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even while its own thread counts what is kept: it must not wait for itself."""
    videos = WatchList(watcher(), int(1.5 * size()))
    for seed in (1, 2):
        stream = videos.watch(film(seed), **SHORT).stream(QUESTION)
        next(stream)
        cycle: list[Any] = [stream]
        cycle.append(cycle)
        del stream, cycle
    count, collected = WatchList._sum, []

    def collect(self: WatchList) -> int:
        collected.append(gc.collect())
        return count(self)

    monkeypatch.setattr(WatchList, "_sum", collect)
    thread = threading.Thread(target=lambda: collected.append(videos.nbytes), daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    assert 0 < collected[-1] <= videos.max_bytes


def test_threads() -> None:
    vlm = watcher()
    videos, wrong = WatchList(vlm, int(1.5 * size())), []

    def ask(seeds: tuple[int, ...]) -> None:
        for seed in seeds:
            tokens = videos.watch(film(seed), **SHORT).ask(QUESTION).token_ids
            if tokens != right(seed):
                wrong.append((seed, tokens))

    assert right(1) != right(2)
    threads = [threading.Thread(target=ask, args=(seeds,)) for seeds in ((1, 2, 1), (2, 1, 1), (1, 1, 2))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert videos.nbytes <= videos.max_bytes


def test_refusals() -> None:
    with pytest.raises(OptionError, match="max_bytes must be 0 or more, not -1"):
        WatchList(watcher(), -1)
    with pytest.raises(OptionError, match="no option 'frames'"):
        WatchList(watcher(), 0).watch(film(1), frames=3)


def test_a_pair_may_have_several_lists() -> None:
    vlm: SpecVLM = watcher()
    one, other = WatchList(vlm, PLENTY), WatchList(vlm, PLENTY)
    assert not knows(one, 1)
    assert not knows(other, 1)


def test_videos_that_can_not_be_read_leave_no_more_than_some_places():
    watched = WatchList(watcher(), PLENTY)
    for number in range(MAX_EMPTY + 10):
        with pytest.raises(VideoError):
            watched.watch(b"no video %d" % number).ask("what happens?")
    assert len(watched) == 0
    assert len(watched._memories) <= MAX_EMPTY
