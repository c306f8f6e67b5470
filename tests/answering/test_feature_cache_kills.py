"""Four processes at once on one folder of a feature cache, killed again and again, while somebody spoils its files."""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from specvlm.answering.feature_cache import FeatureCache
from specvlm.answering.options import Options
from specvlm.engine.stats import Stats
from specvlm.families.kept.seeing import seen
from specvlm.pipeline import SpecVLM
from specvlm.prompts.disk import SUFFIX, UNFINISHED

FILMS, PROCESSES = 6, 4
KILLS, ANSWERS, SECONDS = 12, 40, 600.0
"""At least so many, within so many seconds."""
ROOM_GB = 250e-6
"""Less than all films take, so that entries come and go."""
OPTIONS = Options(max_new_tokens=4, pruning_ratio=0.5)


def pair(cache: FeatureCache | None) -> SpecVLM:
    target = tiny.model("qwen3_vl")
    return SpecVLM(tiny.family(target), tiny.family(tiny.noised(target, 0.05)), feature_cache=cache)


class Right:
    """What there is to see in each film, and what is answered about it."""

    def __init__(self) -> None:
        vlm = pair(None)
        self.films = [tiny.film(8, number) for number in range(FILMS)]
        self.prompts = [vlm.prepare(film, "what happens?", OPTIONS, Stats()) for film in self.films]
        self.seen = [vlm.target.see(prompt) for prompt in self.prompts]
        self.answers = [vlm.generate(film, "what happens?", OPTIONS).token_ids for film in self.films]


def toil(folder: Path, right: Right, seed: int, found: Path) -> None:
    """Ask about films in any order, until killed; a line for each, with how many of them the cache knew."""
    slowly, chance = os.fsync, random.Random(seed)

    def syncing(number: int) -> None:
        time.sleep(chance.random() * 0.02)  # a disk that takes its time: kills fall into it
        slowly(number)

    os.fsync = syncing
    cache = FeatureCache(folder, ROOM_GB)
    vlm = pair(cache)
    while True:
        number = chance.randrange(FILMS)
        film, states = right.films[number], right.seen[number].states
        known = cache.knows(film, OPTIONS)
        prompt = vlm.prepare(film, "what happens?", OPTIONS, Stats())
        made = seen(vlm.target, prompt)
        wrong = [torch.equal(mine, theirs) for mine, theirs in zip(made.states, states, strict=True)].count(False)
        inputs = right.prompts[number].model_inputs
        wrong += sum(not torch.equal(prompt.model_inputs[name], inputs[name]) for name in inputs)
        wrong += vlm.generate(film, "what happens?", OPTIONS).token_ids != right.answers[number]
        with found.open("a") as file:
            file.write(f"{wrong} {int(known)}\n")


def spoil(folder: Path, chance: random.Random) -> None:
    """One byte of one file, or its end, wherever that is."""
    paths = list(folder.glob(f"*{SUFFIX}"))
    if not paths:
        return
    try:
        content = bytearray((path := chance.choice(paths)).read_bytes())
        if chance.random() < 0.3:
            content = content[: chance.randrange(len(content))]
        else:
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        spoilt = folder / "spoilt"  # put in its place: whoever has the old one open keeps that
        spoilt.write_bytes(content)
        spoilt.replace(path)
    except FileNotFoundError:
        return


@pytest.mark.slow
def test_no_kill_and_no_spoilt_file_makes_an_answer_wrong(tmp_path: Path) -> None:
    folder, found, chance = tmp_path / "cache", tmp_path / "found", random.Random(0)
    FeatureCache(folder)
    found.touch()
    right, forks = Right(), multiprocessing.get_context("fork")
    running: list[Any] = []
    kills, answers, end = 0, [], time.monotonic() + SECONDS
    while kills < KILLS or len(answers) < ANSWERS:
        assert time.monotonic() < end, f"{kills} kills and {len(answers)} answers"
        while len(running) < PROCESSES:
            running.append(forks.Process(target=toil, args=(folder, right, chance.randrange(1 << 30), found)))
            running[-1].start()
        time.sleep(chance.random() * 0.6)
        spoil(folder, chance)
        if chance.random() < 0.5:
            victim = running.pop(chance.randrange(len(running)))
            victim.kill()
            victim.join()
            assert victim.exitcode == -9  # nobody ended of himself
            kills += 1
        lines = [line.split() for line in found.read_text().splitlines()]
        answers = [(int(line[0]), int(line[1])) for line in lines if len(line) == 2]
    for process in running:
        process.kill()
        process.join()
    assert sum(wrong for wrong, _ in answers) == 0
    assert sum(known for _, known in answers) >= 5
    assert list(folder.glob(f"*{UNFINISHED}"))  # some were killed while they wrote
    old = time.time() - 1e5
    for path in folder.glob(f"*{UNFINISHED}"):
        os.utime(path, (old, old))
    vlm = pair(FeatureCache(folder, ROOM_GB))
    assert [vlm.generate(film, "what happens?", OPTIONS).token_ids for film in right.films] == right.answers
    assert FeatureCache(folder, ROOM_GB).disk.nbytes <= ROOM_GB * 1e9
    assert not list(folder.glob(f"*{UNFINISHED}"))
