"""The Qwen-VL families against stock generate: every pruner on every kind of prompt, and all else by lot."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
import torch

import tiny
from parity.pairs import ONE_TOWER, QWEN_DRAFTS, every_family, pair
from parity.scenes import SCENES, Scene
from specvlm.pipeline import Generation
from specvlm.pruning import PRUNERS

TREES = ("dynamic", "paper", "chain", ((0,), (1,), (0, 0), (1, 0), (1, 1), (0, 0, 2)))
GREEDY = ({}, {"repetition_penalty": 1.2})
SAMPLED = (
    {"do_sample": True, "temperature": 0.6, "seed": 11},
    {"do_sample": True, "top_k": 8, "top_p": 0.9, "seed": 12},
)
RATIOS = (0.0, 0.5, 0.75, 0.9, 1.0)


def drawn(lot: Random, name: str) -> dict[str, Any]:
    options = {
        "pruning_ratio": lot.choice(RATIOS),
        "tree": lot.choice(TREES),
        "prune_images": lot.random() < 0.5,
        "max_new_tokens": lot.randint(20, 30),
    }
    if name == "self":
        return options | {"self_scope": lot.choice(("prompt", "head"))}
    sights = ("auto", "spared", "full", "shared") if name in ONE_TOWER else ("auto", "spared", "full")
    return options | {"positions": lot.choice(("original", "compact")), "vision": lot.choice(sights)}


def check(answer: Generation, name: str, scene: Scene, options: dict) -> None:
    """The draft was asked, and was as right as it can be: a parity test that accepts nothing proves nothing."""
    stats = answer.stats
    least = 0 if options["prune_images"] else scene.num_still_tokens
    assert least <= stats.num_kept <= stats.num_video_tokens
    if len(answer.token_ids) < 3:
        return
    assert stats.num_drafted > 0
    if name == "hostile":
        assert stats.num_accepted < 0.1 * stats.num_drafted
    if name in ("twin", "self") and stats.num_kept == stats.num_video_tokens:
        assert stats.mean_acceptance_length > (1.2 if "do_sample" in options else 1.8)


def check_cell(same, family: str, pruner: str, scene: str, num: int) -> None:
    """`num` answers, greedy and sampled in turn; draft, dtype and options by lot, the same lot in every run."""
    lot = Random(f"{family} {pruner} {scene}")
    for number in range(num):
        name, dtype = lot.choice(QWEN_DRAFTS), lot.choice((torch.float32, torch.float64))
        options = drawn(lot, name) | lot.choice((GREEDY, SAMPLED)[number % 2])
        prompt = SCENES[scene](lot.randrange(9))
        answer = same(pair(name, dtype, family), prompt.video, pruner=pruner, **prompt.media, **options)
        check(answer, name, prompt, options)


@pytest.mark.parity
@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("pruner", sorted(PRUNERS))
@pytest.mark.parametrize("family", tiny.QWEN)
def test_grid(same, family: str, pruner: str, scene: str) -> None:
    check_cell(same, family, pruner, scene, 3)


@pytest.mark.part(2)
@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("family", tiny.QWEN)
def test_a_diagonal_of_the_grid(same, family: str, scene: str) -> None:
    """The same check on one pruner a cell: what every run of the tests looks at."""
    turn = 7 * tiny.QWEN.index(family) + 3 * list(SCENES).index(scene)
    check_cell(same, family, sorted(PRUNERS)[turn % len(PRUNERS)], scene, 2)


@pytest.mark.parity
@pytest.mark.parametrize("name", QWEN_DRAFTS)
@pytest.mark.parametrize("family", tiny.QWEN)
def test_every_draft_is_as_right_as_it_can_be(same, family: str, name: str) -> None:
    accepted = drafted = 0
    for decoding in (GREEDY[0], SAMPLED[0]):
        answer = same(
            pair(name, torch.float32, family), tiny.film(6, 3), pruning_ratio=0.0, max_new_tokens=32, **decoding
        )
        accepted, drafted = accepted + answer.stats.num_accepted, drafted + answer.stats.num_drafted
    rate = accepted / drafted
    bounds = {"twin": (0.1, 1), "self": (0.1, 1), "kin": (0.02, 1), "close": (0.02, 1), "rough": (0, 0.5)}
    least, most = bounds.get(name, (0, 0.1))
    assert least <= rate <= most


@every_family
def test_chunked_prefill(same, family: str) -> None:
    """Pieces end inside a clip, inside a frame, between clips: deeper features have to be cut with their tokens."""
    for chunk in (1, 7, 16, 1000):
        prompt = SCENES["crowd"](1)
        same(pair("close", family=family), prompt.video, prefill_chunk=chunk, max_new_tokens=16, **prompt.media)


@pytest.mark.parametrize("num_frames", [2, 3, 9, 24])
@every_family
def test_videos_of_any_length(same, family: str, num_frames: int) -> None:
    """Slow ones: in Qwen2.5-VL their last frames stand further on than the words behind them."""
    for positions in ("original", "compact"):
        same(
            pair("close", family=family),
            tiny.film(num_frames, 1, fps=0.25),
            positions=positions,
            pruning_ratio=0.5,
            max_new_tokens=16,
        )


@every_family
def test_a_video_without_a_clock(same, family: str) -> None:
    same(pair("close", family=family), tiny.video(6), max_new_tokens=16)


@every_family
def test_images_alone(same, family: str) -> None:
    for prune in (False, True):
        answer = same(
            pair("twin", family=family),
            None,
            images=(tiny.image(0), tiny.image(1, 32, 16)),
            prune_images=prune,
            pruning_ratio=0.5,
            max_new_tokens=24,
        )
        assert answer.stats.num_video_tokens == 14
        assert answer.stats.num_kept == (7 if prune else 14)
        assert answer.stats.num_accepted > 0
