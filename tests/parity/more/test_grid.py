"""The families of a file each against stock generate: every pruner on every kind of prompt, and all else by lot."""

from __future__ import annotations

from random import Random

import pytest
import torch

import tiny
from parity.more.scenes import SCENES, scenes
from parity.pairs import QWEN_DRAFTS, pair
from parity.qwen.test_grid import GREEDY, SAMPLED, check, drawn
from specvlm.pruning import PRUNERS

CELLS = [(family, scene) for family in tiny.MORE for scene in scenes(family)]


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
@pytest.mark.parametrize("pruner", sorted(PRUNERS))
@pytest.mark.parametrize(("family", "scene"), CELLS)
def test_grid(same, family: str, scene: str, pruner: str) -> None:
    check_cell(same, family, pruner, scene, 3)


@pytest.mark.part(2)
@pytest.mark.parametrize(("family", "scene"), CELLS)
def test_a_diagonal_of_the_grid(same, family: str, scene: str) -> None:
    """The same check on one pruner a cell: what every run of the tests looks at."""
    turn = 7 * list(tiny.MORE).index(family) + 3 * list(SCENES).index(scene)
    check_cell(same, family, sorted(PRUNERS)[turn % len(PRUNERS)], scene, 1)


@pytest.mark.part(3)
@pytest.mark.parametrize(
    "name",
    [
        "twin",
        "close",
        "hostile",
        *(pytest.param(name, marks=pytest.mark.parity) for name in ("kin", "self", "rough", "small")),
    ],
)
@pytest.mark.parametrize("family", tiny.MORE)
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


@pytest.mark.parity
@pytest.mark.parametrize("family", tiny.MORE)
def test_chunked_prefill(same, family: str) -> None:
    """Pieces end inside a clip, inside a frame, between clips."""
    for chunk in (1, 7, 16, 1000):
        prompt = SCENES[list(scenes(family))[-1]](1)
        same(pair("close", family=family), prompt.video, prefill_chunk=chunk, max_new_tokens=16, **prompt.media)


@pytest.mark.parity
@pytest.mark.parametrize("num_frames", [2, 3, 9, 24])
@pytest.mark.parametrize("family", tiny.MORE)
def test_videos_of_any_length(same, family: str, num_frames: int) -> None:
    """24 are more than a vision tower is given at once."""
    for positions in ("original", "compact"):
        same(
            pair("close", family=family),
            tiny.film(num_frames, 1, fps=0.25),
            positions=positions,
            pruning_ratio=0.5,
            max_new_tokens=16,
        )


@pytest.mark.parity
@pytest.mark.parametrize("family", tiny.MORE)
def test_a_video_without_a_clock(same, family: str) -> None:
    same(pair("close", family=family), tiny.video(6), max_new_tokens=16)


@pytest.mark.parity
@pytest.mark.parametrize("family", tiny.MORE)
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
        stats = answer.stats
        assert (stats.num_kept < stats.num_video_tokens) == prune
        assert stats.num_accepted > 0
