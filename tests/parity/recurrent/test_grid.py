"""Models that fold what they read, against stock generate: every pruner on every kind of prompt, all else by lot."""

from __future__ import annotations

import copy
from random import Random

import pytest
import torch

import tiny
from parity.pairs import RECURRENT_DRAFTS, draft, pair, target
from parity.qwen.test_grid import GREEDY, SAMPLED, check, drawn
from parity.scenes import SCENES
from specvlm.pruning import PRUNERS

FILM = tiny.film(4, 1)
PERFECT = {"pruning_ratio": 0.0, "tree": "paper"}
every_family = pytest.mark.parametrize("family", tiny.RECURRENT)


def check_cell(same, family: str, pruner: str, scene: str, num: int) -> None:
    """As of the other Qwen-VL families; no target is its own draft."""
    lot = Random(f"{family} {pruner} {scene}")
    for number in range(num):
        name, dtype = lot.choice(RECURRENT_DRAFTS), lot.choice((torch.float32, torch.float64))
        options = drawn(lot, name) | lot.choice((GREEDY, SAMPLED)[number % 2])
        prompt = SCENES[scene](lot.randrange(9))
        answer = same(pair(name, dtype, family), prompt.video, pruner=pruner, **prompt.media, **options)
        check(answer, name, prompt, options)


@pytest.mark.parity
@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("pruner", sorted(PRUNERS))
@every_family
def test_grid(same, family: str, pruner: str, scene: str) -> None:
    check_cell(same, family, pruner, scene, 4)


@pytest.mark.part(2)
@pytest.mark.parametrize("scene", SCENES)
@every_family
def test_a_diagonal_of_the_grid(same, family: str, scene: str) -> None:
    """The same check on one pruner a cell: what every run of the tests looks at."""
    turn = 7 * list(tiny.RECURRENT).index(family) + 3 * list(SCENES).index(scene)
    check_cell(same, family, sorted(PRUNERS)[turn % len(PRUNERS)], scene, 1)


@pytest.mark.part(2)
@pytest.mark.parametrize("name", ["twin", "hostile"])
@every_family
def test_drafts_are_accepted_and_rejected(same, family: str, name: str) -> None:
    for decoding, least in ((GREEDY[0], 0.1), (SAMPLED[0], 0.0)):
        answer = same(pair(name, torch.float32, family), tiny.film(6, 3), max_new_tokens=24, **PERFECT, **decoding)
        accepted, drafted = answer.stats.num_accepted, answer.stats.num_drafted
        assert (accepted > least * drafted) if name == "twin" else (accepted < 0.1 * drafted)


@pytest.mark.part(2)
@pytest.mark.parametrize("tree", ["paper", "chain"])
@every_family
def test_a_draft_with_the_targets_weights_is_right_at_every_depth(family: str, tree: str) -> None:
    """5 of 5, so 6 tokens a round with the bonus: its states are taken back as the target's are."""
    vlm, whole = pair("twin", torch.float64, family), 0
    for seed in range(4):
        answer = vlm.generate(
            tiny.film(5, seed=seed), "what happens?", tree=tree, depth=5, pruning_ratio=0.0, max_new_tokens=31
        )
        if answer.finish_reason == "length":
            whole += 1
            assert answer.stats.accepted_per_depth == [5] * 5
    assert whole >= 2


@every_family
def test_chunked_prefill(same, family: str) -> None:
    for chunk in (1, 7, 1000):
        prompt = SCENES["crowd"](1)
        same(pair("close", family=family), prompt.video, prefill_chunk=chunk, max_new_tokens=12, **prompt.media)


@pytest.mark.parametrize("num_frames", [1, 2, 9, pytest.param(24, marks=pytest.mark.parity)])
@every_family
def test_videos_of_any_length(same, family: str, num_frames: int) -> None:
    for positions in ("original", "compact"):
        film = tiny.film(num_frames, 1, fps=0.25)
        same(pair("close", family=family), film, positions=positions, pruning_ratio=0.5, max_new_tokens=12)


@pytest.mark.parametrize("name", ["twin", pytest.param("rough", marks=pytest.mark.parity)])
@every_family
def test_the_end_token_wherever_it_falls(same, family: str, name: str) -> None:
    """First token, bonus, or inside an accepted path: nothing comes after it."""
    tokens = pair("twin", family=family).autoregressive(FILM, "what happens?", max_new_tokens=20).token_ids
    unsaid = min(set(range(tiny.VOCABULARY)) - set(tokens))
    for index in (0, 1, 4, 6, 7):
        ending = copy.deepcopy(target(family=family))
        ending.generation_config.eos_token_id = [tokens[index], unsaid]
        answer = same(tiny.pair(ending, draft(name, family=family)), FILM, max_new_tokens=20, **PERFECT)
        assert answer.finish_reason == "eos"
        assert answer.token_ids == tokens[: tokens.index(tokens[index]) + 1]


@pytest.mark.parametrize("tree", ["paper", "dynamic", "chain", "auto"])
@every_family
def test_strictly(same, family: str, tree: str) -> None:
    """Where a choice was close the last node is read once more by itself, behind a path that was cut."""
    options = {"tree": tree} if tree != "auto" else {"plan": "auto"}
    same(pair("close", family=family), FILM, strict=True, max_new_tokens=20, pruning_ratio=0.5, **options)


@pytest.mark.part(2)
@pytest.mark.parametrize("pruner", ["uniform", "verifier_guided"])
@every_family
def test_many_questions_about_one_video(same, family: str, pruner: str) -> None:
    """The video is read once: its states were kept where the question begins. A follow-up goes on from the answer."""
    vlm = pair("close", torch.float64, family)
    watched = vlm.watch(FILM, max_new_tokens=16, pruning_ratio=0.5, pruner=pruner)
    history: tuple[tuple[str, str], ...] = ()
    for question in ("what happens?", "who is it?", "why is that so?", "where to?"):
        options = {"history": history} if question.startswith("w") else {}
        answer = watched.ask(question, **options)
        right = vlm.autoregressive(FILM, question, max_new_tokens=16, **options)
        assert answer.token_ids == right.token_ids
        if question == "who is it?":
            assert "vision_target" not in answer.stats.phases
            history = ((question, answer.text),)
    assert watched.nbytes > 0
