"""Each pruner against a slow, literal reading of what it says it does."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.nn.functional import cosine_similarity, normalize
from torch.overrides import TorchFunctionMode

from pruning.contexts import contexts, grid
from specvlm.errors import OptionError
from specvlm.pruning import (
    Attention,
    AttentionReverse,
    Diverse,
    Frames,
    GuidedFrames,
    PruningContext,
    Random,
    Similarity,
    Uniform,
    VerifierGuided,
    Window,
)
from specvlm.pruning.bias import excess_attention


def spaced(items: list[int], num_picks: int) -> list[int]:
    """An even stride in exact arithmetic, both ends included; a single pick is the middle one."""
    if num_picks < 2:
        return [items[(len(items) - 1) // 2]] * num_picks
    return [items[math.floor(i * (len(items) - 1) / (num_picks - 1) + 1e-12)] for i in range(num_picks)]


# ---- random, uniform, window


def test_random_follows_its_seed():
    context = grid(8, 10, 40)
    draws = {tuple(Random(seed).select(context).tolist()) for seed in range(50)}
    assert len(draws) == 50


def test_random_is_fair():
    counts = torch.zeros(10)
    for seed in range(500):
        counts[Random(seed).select(grid(2, 5, 3))] += 1
    # 500 draws of 3 in 10: 150 each, with a standard deviation of 10.2; the seeds are fixed, so never flaky
    assert (counts - 150).abs().max() < 5 * 10.2


def test_random_keeps_what_a_higher_ratio_keeps():
    kept = [set(Random(seed=5).select(grid(4, 5, num_keep)).tolist()) for num_keep in range(21)]
    assert all(fewer < more for fewer, more in itertools.pairwise(kept))


@pytest.mark.usefixtures("unchecked_annotations")
@pytest.mark.parametrize("seed", [-1, 2**63, True, 1.0, "a"])
def test_random_refuses_a_seed_that_is_none(seed):
    with pytest.raises(OptionError, match="seed must be a whole number"):
        Random(seed=seed)


@given(num_tokens=st.integers(2, 400), data=st.data())
def test_uniform_gaps_differ_by_at_most_one_and_reach_both_ends(num_tokens, data):
    num_keep = data.draw(st.integers(2, num_tokens))
    kept = Uniform().select(grid(1, num_tokens, num_keep))
    gaps = kept.diff()
    assert int(gaps.max() - gaps.min()) <= 1
    assert (int(kept[0]), int(kept[-1])) == (0, num_tokens - 1)


def test_uniform_keeps_a_single_token_from_the_middle():
    assert Uniform().select(grid(1, 9, 1)).tolist() == [4]


@pytest.mark.parametrize(("where", "kept"), [("front", [0, 1, 2]), ("middle", [2, 3, 4]), ("back", [5, 6, 7])])
def test_window(where, kept):
    assert Window(where).select(grid(2, 4, 3)).tolist() == kept


@pytest.mark.usefixtures("unchecked_annotations")
def test_window_refuses_another_place():
    with pytest.raises(OptionError, match="where must be one of front, middle, back, not 'top'"):
        Window("top")


# ---- attention and its control


@given(contexts())
def test_attention_keeps_the_highest_scores_and_its_control_the_lowest(context):
    scores = context.scores.tolist()
    ranked = sorted(range(context.num_tokens), key=lambda i: (-scores[i], i))
    assert Attention().select(context).tolist() == sorted(ranked[: context.num_keep])
    assert AttentionReverse().select(context).tolist() == sorted(ranked[::-1][: context.num_keep])


@given(contexts())
def test_attention_and_its_control_share_nothing_up_to_one_half(context):
    half = replace(context, num_keep=context.num_tokens // 2)
    assert not set(Attention().select(half).tolist()) & set(AttentionReverse().select(half).tolist())


def test_the_control_can_overlap_above_one_half():
    context = grid(1, 3, 2, scores=torch.tensor([3.0, 2.0, 1.0]))
    assert set(Attention().select(context).tolist()) & set(AttentionReverse().select(context).tolist()) == {1}


# ---- the paper's


def literal_stages(scores: list[float], num_keep: int, top_p: float) -> tuple[list[int], list[int]]:
    """Section by section as the paper tells it, one token at a time."""
    rest, guided = list(range(len(scores))), []
    while len(guided) < num_keep and sum(scores[i] for i in guided) < top_p * sum(scores):
        best = max(rest, key=lambda i: (scores[i], -i))
        rest.remove(best)
        guided.append(best)
    return sorted(guided), spaced(rest, num_keep - len(guided)) if rest else []


@given(contexts(), st.sampled_from([0, 0.1, 0.25, 0.4, 0.5, 0.8, 1]))
def test_verifier_guided_reads_as_the_paper_does(context, top_p):
    one, two = VerifierGuided(top_p=top_p).stages(context)
    assert (one.tolist(), two.tolist()) == literal_stages(context.scores.tolist(), context.num_keep, top_p)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=7), st.sampled_from([0.1, 0.4, 0.75, 1]))
def test_stage_one_is_the_smallest_set_that_reaches_top_p(scores, top_p):
    assume(sum(scores))
    M = len(scores)
    one, _ = VerifierGuided(top_p=top_p).stages(grid(1, M, M, scores=torch.tensor(scores).float()))
    subsets = itertools.chain.from_iterable(itertools.combinations(range(M), size) for size in range(M + 1))
    reaching = [s for s in subsets if sum(scores[i] for i in s) >= top_p * sum(scores)]
    assert len(one) == min(map(len, reaching))
    assert tuple(one.tolist()) in reaching


@given(contexts(), st.floats(0, 1))
def test_a_fraction_of_k_can_take_the_place_of_top_p(context, fraction):
    pruner = VerifierGuided(fraction=fraction)
    one, two = pruner.stages(context)
    assert abs(len(one) - fraction * context.num_keep) <= 0.5 + 1e-9
    assert torch.equal(one, Attention().select(replace(context, num_keep=len(one))))
    rest = sorted(set(range(context.num_tokens)) - set(one.tolist()))
    assert two.tolist() == (spaced(rest, len(two)) if rest else [])
    assert pruner.select(context).tolist() == sorted(one.tolist() + two.tolist())


def test_a_half_token_goes_to_stage_one():
    one, _ = VerifierGuided(fraction=0.5).stages(grid(1, 9, 5, scores=torch.ones(9)))
    assert len(one) == 3


def test_scores_that_say_nothing_leave_an_even_stride():
    context = grid(3, 7, 8, scores=torch.zeros(21))
    one, two = VerifierGuided().stages(context)
    assert len(one) == 0
    assert torch.equal(two, Uniform().select(context))


@pytest.mark.usefixtures("unchecked_annotations")
@pytest.mark.parametrize("option", ["top_p", "fraction"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), True, "0.4"])
def test_verifier_guided_refuses_shares_outside_0_to_1(option, value):
    with pytest.raises(OptionError, match=f"{option} must be a number from 0 to 1"):
        VerifierGuided(**{option: value})


# ---- whole frames


def shares_kept(context: PruningContext, kept: torch.Tensor) -> dict[int, tuple[int, int]]:
    """For each frame: how many of its placed tokens are kept, and how many it has."""
    frames = {}
    for frame in context.frame_ids[context.place_ids >= 0].unique().tolist():
        tokens = ((context.frame_ids == frame) & (context.place_ids >= 0)).nonzero()[:, 0]
        frames[frame] = (int(torch.isin(tokens, kept).sum()), len(tokens))
    return frames


@pytest.mark.parametrize("pruner", [Frames(), GuidedFrames()], ids=str)
@given(context=contexts())
def test_frames_are_whole_but_for_one(pruner, context):
    kept = pruner.select(context)
    partial = [0 < some < all_ for some, all_ in shares_kept(context, kept).values()]
    assert sum(partial) <= 1
    placeless = (context.place_ids < 0).nonzero()[:, 0]
    if any(partial):
        assert bool(torch.isin(placeless, kept).all())


@given(num_frames=st.integers(1, 12), num_places=st.integers(1, 6), data=st.data())
def test_frames_of_one_size_are_as_many_as_fit_and_evenly_spaced(num_frames, num_places, data):
    context = grid(num_frames, num_places, data.draw(st.integers(0, num_frames * num_places)))
    shares = shares_kept(context, Frames().select(context))
    whole = [frame for frame, (some, all_) in shares.items() if some == all_]
    assert whole == spaced(list(range(num_frames)), context.num_keep // num_places)


def test_what_is_left_closes_the_video_and_then_thins_the_farthest_frame():
    kept = Frames().select(grid(9, 5, 2 * 5 + 1 + 2, num_placeless=1))  # frames 0 and 8, then the newline
    assert kept.tolist() == [0, 1, 2, 3, 4, 20, 24, 40, 41, 42, 43, 44, 45]  # and both ends of frame 4


def test_less_than_one_frame_is_a_thin_middle_frame():
    assert Frames().select(grid(5, 4, 2)).tolist() == [8, 11]


def test_frames_without_a_single_place_fall_back_on_an_even_stride():
    assert Frames().select(grid(0, 0, 3, num_placeless=5)).tolist() == [0, 2, 4]


def biased_scores(num_frames: int, num_places: int, seed: int = 0) -> torch.Tensor:
    """A frame's attention as it leans: four times as much at either end as amidst, and a little noise."""
    time = torch.linspace(-1, 1, num_frames, dtype=torch.float64)
    noise = 1 + 0.05 * torch.rand(num_frames, num_places, generator=torch.Generator().manual_seed(seed))
    return (1 + 3 * time**2)[:, None] * noise


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("shown", range(2, 14))
def test_guided_frames_sees_past_the_position_bias(seed, shown):
    scores = biased_scores(16, 6, seed)
    scores[shown] *= 1.8
    context = grid(16, 6, 6, scores=scores.flatten())
    guided = GuidedFrames().select(context)
    assert context.frame_ids[guided].unique().tolist() == [shown]
    if 3 <= shown <= 12:  # else it stands out by itself
        assert scores.mean(1).argmax() in (0, 15)


@given(num_frames=st.integers(1, 12), data=st.data())
def test_guided_frames_takes_one_frame_of_each_span(num_frames, data):
    num_spans = data.draw(st.integers(1, num_frames))
    scores = torch.tensor(data.draw(st.lists(st.integers(0, 9), min_size=num_frames, max_size=num_frames)))
    context = grid(num_frames, 3, 3 * num_spans, scores=scores.float().repeat_interleave(3))
    picks = context.frame_ids[GuidedFrames().select(context)].unique().tolist()
    bounds = [i * num_frames // num_spans for i in range(num_spans + 1)]
    excess = excess_attention(scores.double())
    assert picks == [max(range(a, b), key=lambda i: (excess[i], -i)) for a, b in itertools.pairwise(bounds)]


def test_guided_frames_breaks_ties_by_index():
    for num_frames in range(1, 20):
        context = grid(num_frames, 2, 2, scores=torch.full((2 * num_frames,), 0.1))
        assert GuidedFrames().select(context).tolist() == [0, 1]


@given(st.lists(st.integers(0, 9), max_size=9))
def test_the_trend_leaves_nothing_on_average(frame_scores):
    excess = excess_attention(torch.tensor(frame_scores, dtype=torch.float64))
    assert excess.shape == (len(frame_scores),)
    assert abs(float(excess.sum())) < 1e-6


# ---- features


def test_similarity_keeps_the_first_frame_and_what_moved():
    still = torch.eye(4)
    features = still.repeat(3, 1, 1)
    features[1, 2] = features[2, 2] = -still[2]  # place 2 changes in frame 1 and stays so
    context = grid(3, 4, 5, features=features.flatten(0, 1))
    assert Similarity().select(context).tolist() == [0, 1, 2, 3, 6]


@given(contexts(ties=False))
def test_similarity_drops_the_tokens_most_like_the_place_before(context):
    frames, places, features = context.frame_ids.tolist(), context.place_ids.tolist(), context.features
    likeness = {}
    for i in range(context.num_tokens):
        before = [j for j in range(i) if places[j] == places[i] >= 0 and frames[j] < frames[i]]
        if before:
            likeness[i] = float(cosine_similarity(features[i], features[before[-1]], dim=0))
    new = [i for i in range(context.num_tokens) if i not in likeness]
    changed = sorted(likeness, key=likeness.__getitem__)
    num_changed = context.num_keep - len(new)
    expected = sorted(new + changed[:num_changed]) if num_changed > 0 else spaced(new, context.num_keep) if new else []
    assert Similarity().select(context).tolist() == expected


@given(contexts(ties=False))
def test_diverse_takes_the_farthest_token_each_time(context):
    assume(context.num_tokens != 2)  # two tokens are equally like their mean, but for rounding
    directions = normalize(context.features, dim=-1)
    likeness = directions @ directions.T
    expected: list[int] = []
    for _ in range(context.num_keep):
        others = [i for i in range(context.num_tokens) if i not in expected]
        expected.append(
            min(
                others,
                key=lambda i: float(likeness[i, expected].max()) if expected else float(likeness[i].mean()),
            )
        )
    assert Diverse().select(context).tolist() == sorted(expected)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("num_keep", [2, 3, 4])
def test_diverse_is_within_a_factor_of_two_of_the_best_set(seed, num_keep):
    features = torch.randn(9, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    directions = normalize(features, dim=-1)

    def spread(kept: tuple[int, ...]) -> float:
        return min(float((directions[i] - directions[j]).norm()) for i, j in itertools.combinations(kept, 2))

    best = max(map(spread, itertools.combinations(range(9), num_keep)))
    assert spread(tuple(Diverse().select(grid(1, 9, num_keep, features=features)).tolist())) >= best / 2


def test_diverse_keeps_a_second_copy_only_when_nothing_else_is_left():
    features = torch.eye(4).repeat(5, 1) * torch.arange(1, 21)[:, None]  # 4 directions, 5 lengths each
    kept = Diverse().select(grid(5, 4, 4, features=features))
    assert sorted((kept % 4).tolist()) == [0, 1, 2, 3]


class LargestTensor(TorchFunctionMode):
    """Remembers how many elements the largest tensor has that any operation made."""

    num_elements = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor):
            self.num_elements = max(self.num_elements, made.numel())
        return made


def test_diverse_makes_no_matrix_of_all_pairs():
    context = grid(10, 50, 20, features=torch.randn(500, 8))
    with LargestTensor() as largest:
        Diverse().select(context)
    assert largest.num_elements == 500 * 8
