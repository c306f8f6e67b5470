"""Answers of the device beside others: about one video, one after the other, in turns, and given up half-way."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import pytest
import torch

import tiny
from parity.conftest import Same
from parity.pairs import pair
from parity.rounds.asked import DECODINGS, TREES, film, stock
from specvlm.answering.options import Options
from specvlm.pipeline import Generation, SpecVLM
from specvlm.watching.watched import Watched
from watching.many_questions import TURNS, watcher

FAMILIES = list(tiny.BUILDERS)
EACH_FAMILY = [FAMILIES[0], *(pytest.param(name, marks=pytest.mark.parity) for name in FAMILIES[1:])]


@dataclass(frozen=True)
class Watching:
    """Answers as a SpecVLM does, from what is remembered of the one video."""

    vlm: SpecVLM
    watched: Watched

    def autoregressive(self, video: Any, question: str, options: Options) -> Generation:
        return self.vlm.autoregressive(video, question, options)

    def generate(self, video: Any, question: str, options: Options) -> Generation:
        return self.watched.ask(question, options)


@pytest.mark.parity
@pytest.mark.parametrize("places", [("device",), ("host", "device", "device")], ids=["device", "mixed"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("draft", ["close", "kin"])
@pytest.mark.parametrize("family", FAMILIES)
def test_many_questions_about_one_video(same: Same, family: str, draft: str, dtype: torch.dtype, places) -> None:
    """A cache that an answer of the host's left stays the host's; one of the device's serves both."""
    check_turns(same, watcher(family, draft, dtype), places)


def test_some_questions_about_one_video(same: Same) -> None:
    check_turns(same, watcher("qwen2_5_vl", "close"), ("device", "host", "device"))


def check_turns(same: Same, vlm: SpecVLM, places: tuple[str, ...]) -> None:
    video, history, by_device = tiny.film(6, 1), (), 0
    watching = Watching(vlm, vlm.watch(video))
    for turn, ((question, options), rounds) in enumerate(zip(TURNS, cycle(places), strict=False)):
        told = {"max_new_tokens": 10, "pruning_ratio": 0.5, "history": history[: turn % 3]} | options
        answer = same(watching, video, question, rounds=rounds, **told)
        if answer.stats.rounds:
            why = None if rounds == places[0] == "device" else "asked for"
            if places[0] == "host" and rounds == "device":
                why = "a cache isn't of fixed capacity"
            assert answer.stats.on_host_because == why
            by_device += why is None
        history = (*history, (question, answer.text))
    assert by_device > 0 or places[0] == "host"


@dataclass(frozen=True)
class Found:
    """Knows its answer already."""

    answer: Generation

    def generate(self, *asked: Any) -> Generation:
        return self.answer


def step(stream: Generator[str, None, Generation]) -> Generation | None:
    """One piece more; the answer, if that was all."""
    try:
        next(stream)
    except StopIteration as end:
        return end.value
    return None


@pytest.mark.parametrize("family", EACH_FAMILY)
def test_answers_in_turns(same: Same, family: str) -> None:
    """Three at a time, of several seeds and trees, one of them the host's."""
    dtype = torch.float32
    for turn in range(4):
        asked = [
            {"max_new_tokens": 20, **DECODINGS[list(DECODINGS)[(turn + number) % len(DECODINGS)]]}
            for number in range(3)
        ]
        streams = {
            number: pair(("close", "twin", "rough")[number], dtype, family).stream(
                film(number),
                "what happens?",
                rounds="host" if number == turn else "device",
                **asked[number],
                **TREES[list(TREES)[(turn + 3 * number) % len(TREES)]],
            )
            for number in range(3)
        }
        while streams:
            for number, stream in list(streams.items()):
                if (answer := step(stream)) is not None:
                    same(Found(answer), None, right=stock(family, dtype, number, **asked[number]))
                    del streams[number]


@pytest.mark.parametrize("family", EACH_FAMILY)
def test_answers_that_are_given_up_leave_nothing_behind(same: Same, family: str) -> None:
    """With the dice that all the world draws from, too."""
    vlm, video = pair("close", torch.float64, family), tiny.film(6, 1)
    watching = Watching(vlm, vlm.watch(video))
    for pieces, (question, options) in enumerate(TURNS[:5]):
        told = {"max_new_tokens": 16, "rounds": "device"} | options
        stream = watching.watched.stream(question, **told)
        for _ in range(pieces):
            next(stream, None)
        stream.close()
        same(watching, video, question, **told)
