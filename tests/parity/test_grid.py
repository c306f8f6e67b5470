"""Every pruner, tree, dtype and way of decoding against stock generate; drafts, positions and ratios in turn."""

from __future__ import annotations

import pytest
import torch

import tiny
from parity.pairs import DRAFTS, pair
from specvlm.pruning import PRUNERS

TREES = ("paper", "dynamic", "chain", ((0,), (1,), (0, 0), (1, 0), (1, 1), (0, 0, 2)))
DECODINGS = (
    {},
    {"repetition_penalty": 1.3},
    {"do_sample": True, "temperature": 0.6, "seed": 11},
    {"do_sample": True, "top_k": 5, "top_p": 0.9, "seed": 12},
    {"do_sample": True, "min_p": 0.1, "repetition_penalty": 1.1, "seed": 13},
)
RATIOS = (0.0, 0.5, 0.9, 1.0)


def check(same, pruner: str, tree: object, dtype: torch.dtype, decodings: tuple[dict, ...], turn: int) -> None:
    for number, decoding in enumerate(decodings):
        # Primes, so that each setting meets all others and not always the same ones.
        name = DRAFTS[(turn + 3 * number) % len(DRAFTS)]
        answer = same(
            pair(name, dtype),
            tiny.video(3 + turn % 4, seed=turn % 7),
            pruner=pruner,
            pruning_ratio=RATIOS[(turn + 7 * number) % len(RATIOS)],
            positions=("original", "compact")[(turn + number) % 2],
            tree=tree,
            max_new_tokens=16 + turn % 5,
            **decoding,
        )
        stats = answer.stats
        assert stats.num_drafted > 0
        if name == "hostile":
            assert stats.num_accepted < 0.1 * stats.num_drafted
            assert stats.num_rounds >= len(answer.token_ids) - 1 - stats.num_accepted
        if name == "twin" and stats.num_kept == stats.num_video_tokens and not decoding:
            assert stats.mean_acceptance_length > 1.5


@pytest.mark.parity
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("tree", range(len(TREES)), ids=("paper", "dynamic", "chain", "paths"))
@pytest.mark.parametrize("pruner", sorted(PRUNERS))
@pytest.mark.parametrize("lap", [0, 1])
def test_grid(same, pruner: str, tree: int, dtype: torch.dtype, lap: int) -> None:
    turn = sorted(PRUNERS).index(pruner) * 8 + tree * 2 + (dtype == torch.float64) + 101 * lap
    check(same, pruner, TREES[tree], dtype, DECODINGS, turn)


@pytest.mark.part(2)
@pytest.mark.parametrize("tree", range(len(TREES)), ids=("paper", "dynamic", "chain", "paths"))
def test_a_diagonal_of_the_grid(same, tree: int) -> None:
    """The same check on one pruner a tree: what every run of the tests looks at."""
    check(same, sorted(PRUNERS)[3 * tree], TREES[tree], torch.float32, DECODINGS, 5 * tree + 1)


@pytest.mark.parametrize("name", DRAFTS)
def test_every_draft_greedy_and_sampled(same, name: str) -> None:
    for decoding in ({}, {"do_sample": True, "temperature": 0.8, "seed": 3}):
        for ratio in (0.0, 0.9):
            answer = same(pair(name), tiny.video(6, seed=2), pruning_ratio=ratio, max_new_tokens=32, **decoding)
            if name in ("twin", "close") and ratio == 0:
                assert answer.stats.num_accepted > 0
            if name == "hostile":
                assert answer.stats.num_accepted < 0.1 * answer.stats.num_drafted


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 1), (6, 2)])
def test_grouped_heads(same, heads: int, kv_heads: int) -> None:
    target = tiny.llava_model(3, hidden=8 * heads, heads=heads, kv_heads=kv_heads)
    vlm = tiny.llava_pair(target, tiny.noised(target, 0.02))
    answer = same(vlm, tiny.video(5), pruning_ratio=0.5, max_new_tokens=24)
    assert answer.stats.num_accepted > 0


@pytest.mark.parametrize("chunk", [1, 7, 16, 1000])
def test_chunked_prefill(same, chunk: int) -> None:
    same(pair("close"), tiny.video(6), prefill_chunk=chunk, max_new_tokens=16)


@pytest.mark.parametrize("num_frames", [None, 1, 2, 20])
def test_text_alone_and_videos_of_any_length(same, num_frames: int | None) -> None:
    """20 frames are more than the vision tower is given at once."""
    video = None if num_frames is None else tiny.video(num_frames, seed=4)
    for ratio in (0.0, 0.9, 1.0):
        answer = same(pair("close"), video, pruning_ratio=ratio, max_new_tokens=16)
        assert answer.stats.num_video_tokens == (0 if num_frames is None else 4 * num_frames + 1)


def test_a_conversation_with_a_system_prompt(same) -> None:
    same(
        pair("close"),
        tiny.video(4),
        "and then?",
        system="be brief",
        history=(("what happens?", "a red ball rolls"), ("where to?", "to the left")),
        max_new_tokens=16,
    )


def test_the_checkpoints_own_generation_config(same) -> None:
    """Qwen2.5-VL ships a repetition penalty, others sample: what the user leaves open, the checkpoint decides."""
    target = tiny.llava_model(0)
    target.generation_config.repetition_penalty = 1.2
    target.generation_config.do_sample = True
    target.generation_config.temperature = 0.7
    vlm = tiny.llava_pair(target, tiny.noised(target, 0.02))
    sampled = same(vlm, tiny.video(4), seed=1, max_new_tokens=24)
    greedy = same(vlm, tiny.video(4), do_sample=False, max_new_tokens=24)
    assert sampled.token_ids != greedy.token_ids


def test_without_a_seed_the_global_generator_is_used_as_generate_uses_it() -> None:
    """Same draws, and the same state afterwards: not one number more is drawn, even when the answer ends on a guess."""
    vlm, options = pair("twin"), {"do_sample": True, "temperature": 0.5, "pruning_ratio": 0.0, "max_new_tokens": 21}
    torch.manual_seed(5)
    right = vlm.autoregressive(tiny.video(4), "what happens?", **options)
    state = torch.get_rng_state()
    torch.manual_seed(5)
    ours = vlm.generate(tiny.video(4), "what happens?", **options)
    assert ours.token_ids == right.token_ids
    assert ours.stats.num_accepted > 0
    assert torch.equal(torch.get_rng_state(), state)
