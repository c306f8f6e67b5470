"""The combined pruner: frames first, tokens second, against a slow, literal reading of what it says it does."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from pruning.contexts import contexts, grid
from pruning.methods.test_methods import spaced
from specvlm.errors import OptionError
from specvlm.pruning import Attention, GuidedFocus, GuidedFrames, PruningContext
from specvlm.pruning.bias import above_trend
from specvlm.pruning.framewise import best_of_spans
from specvlm.pruning.methods.guided_focus import fewest_frames, fill_alike

DENSITIES = [0, 0.05, 0.1, 0.25, 0.3, 0.5, 0.75, 0.9, 1, 1.0]


def counts(context: PruningContext, kept: torch.Tensor) -> dict[int, int]:
    """How many placed tokens of each frame that was touched are kept."""
    placed = kept[context.place_ids[kept] >= 0]
    return dict(Counter(context.frame_ids[placed].tolist()))


def literal_levels(scores: list[float]) -> list[float]:
    mean = sum(scores) / len(scores)
    return [math.log1p(score / mean) if mean else 0.0 for score in scores]


def literal_excess(levels: list[float], at: list[int]) -> list[float]:
    """numpy's own least squares, in the raw positions."""
    if not levels:
        return []
    trend = np.polyval(np.polyfit(at, levels, min(2, len(set(at)) // 3)), at)
    return [round(float(level - common), 8) for level, common in zip(levels, trend, strict=True)]


def literal_focus(context: PruningContext, density: float) -> list[int]:
    """Step by step as the docstring tells it, one span and one token at a time."""
    M, K = context.num_tokens, context.num_keep
    scores, places, ids = context.scores.tolist(), context.place_ids.tolist(), context.frame_ids.tolist()
    placed = [i for i in range(M) if places[i] >= 0]
    placeless = [i for i in range(M) if places[i] < 0]
    frames = [[i for i in placed if ids[i] == frame] for frame in sorted({ids[i] for i in placed})]

    closing = spaced(placeless, math.ceil(Fraction(K * len(placeless), M))) if placeless else []
    left = K - len(closing)

    means = [sum(scores[i] for i in frame) / len(frame) for frame in frames]
    excess = literal_excess(literal_levels(means), list(range(len(frames)))) if frames else []
    chosen: list[int] = []
    for num_spans in range(1, min(len(frames), left) + 1):
        bounds = [math.floor(Fraction(i * len(frames), num_spans)) for i in range(num_spans + 1)]
        chosen = [max(range(bounds[i], bounds[i + 1]), key=lambda f: (excess[f], -f)) for i in range(num_spans)]
        if Fraction(str(density)) * sum(len(frames[f]) for f in chosen) >= left:
            break

    level = {}
    for frame in frames:
        level |= dict(zip(frame, literal_levels([scores[i] for i in frame]), strict=True))
    above = dict(zip(placed, literal_excess([level[i] for i in placed], [places[i] for i in placed]), strict=True))
    kept: dict[int, list[int]] = {f: [] for f in chosen}
    for _ in range(left):
        emptiest = min(chosen, key=lambda f: (Fraction(len(kept[f]), len(frames[f])), -excess[f], f))
        rest = [i for i in frames[emptiest] if i not in kept[emptiest]]
        kept[emptiest].append(max(rest, key=lambda i: (above[i], -i)))
    return sorted(closing + [i for tokens in kept.values() for i in tokens])


@given(context=contexts(), density=st.sampled_from(DENSITIES))
def test_reads_as_it_is_told(context, density):
    assert GuidedFocus(density).select(context).tolist() == literal_focus(context, density)


@given(context=contexts(ties=False), density=st.sampled_from(DENSITIES))
def test_reads_as_it_is_told_without_ties(context, density):
    assert GuidedFocus(density).select(context).tolist() == literal_focus(context, density)


# ---- how many frames


@given(
    num_frames=st.integers(1, 12),
    num_places=st.integers(1, 9),
    density=st.decimals(0, 1, places=3),
    data=st.data(),
)
def test_touches_the_fewest_frames_that_the_density_allows(num_frames, num_places, density, data):
    num_keep = data.draw(st.integers(0, num_frames * num_places))
    scores = torch.rand(num_frames * num_places, generator=torch.Generator().manual_seed(num_keep))
    context = grid(num_frames, num_places, num_keep, scores=scores)
    touched = len(counts(context, GuidedFocus(float(density)).select(context)))
    allowed = [n for n in range(num_frames + 1) if n * density * num_places >= num_keep]
    assert touched == min([*allowed[:1], num_frames, num_keep])


@given(context=contexts(), density=st.sampled_from(DENSITIES))
def test_frames_are_filled_alike(context, density):
    kept = counts(context, GuidedFocus(density).select(context))
    frame_ids = context.frame_ids[context.place_ids >= 0].tolist()
    sizes = {frame: frame_ids.count(frame) for frame in kept}
    fill = Fraction(sum(kept.values()), max(1, sum(sizes.values())))
    assert all(kept[frame] <= math.ceil(fill * sizes[frame]) for frame in kept)
    assert fill <= Fraction(str(density)) or len(kept) == min(len(set(frame_ids)), sum(kept.values()))


@given(excess=st.lists(st.integers(0, 5), min_size=1, max_size=12), sizes=st.data(), density=st.sampled_from(DENSITIES))
def test_frames_of_different_sizes_hold_what_is_asked_of_them(excess, sizes, density):
    sizes = sizes.draw(st.lists(st.integers(1, 9), min_size=len(excess), max_size=len(excess)))
    values, density = torch.tensor(excess, dtype=torch.float64), Fraction(str(density))
    for num_keep in range(sum(sizes) + 1):
        chosen = fewest_frames(values, sizes, num_keep, density)
        assert chosen == best_of_spans(values, len(chosen))
        assert len(chosen) <= num_keep <= sum(sizes[i] for i in chosen)
        for num_spans in range(len(chosen)):  # fewer would not have done
            fewer = best_of_spans(values, num_spans)
            assert density * sum(sizes[i] for i in fewer) < num_keep


def test_a_higher_density_touches_fewer_frames_on_the_way_from_all_to_the_fewest():
    context = grid(16, 10, 40, scores=torch.rand(160, generator=torch.Generator().manual_seed(0)))
    touched = [len(counts(context, GuidedFocus(density).select(context))) for density in (0, 0.3, 0.5, 0.8, 1)]
    assert touched == [16, 14, 8, 5, 4]


# ---- which frames


@given(num_frames=st.integers(1, 9), num_places=st.integers(1, 5), data=st.data())
def test_whole_frames_are_those_of_guided_frames(num_frames, num_places, data):
    num_keep = num_places * data.draw(st.integers(0, num_frames))
    scores = data.draw(st.lists(st.integers(0, 9), min_size=num_frames, max_size=num_frames))
    scores = torch.tensor(scores).float().repeat_interleave(num_places)
    context = grid(num_frames, num_places, num_keep, scores=scores)
    assert torch.equal(GuidedFocus(density=1).select(context), GuidedFrames().select(context))


@given(values=st.lists(st.integers(0, 5), min_size=2, max_size=20), data=st.data())
def test_twice_the_frames_are_the_same_and_as_many_again(values, data):
    num_spans = data.draw(st.integers(1, len(values) // 2))
    values = torch.tensor(values, dtype=torch.float64)
    assert set(best_of_spans(values, num_spans)) < set(best_of_spans(values, 2 * num_spans))


# ---- which tokens


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_each_next_token_goes_to_the_frame_that_is_filled_the_least(sizes):
    ranked = [tokens.tolist() for tokens in torch.arange(sum(sizes)).split(sizes)]
    expected: list[int] = []
    for num_keep in range(sum(sizes) + 1):
        assert fill_alike(list(map(torch.tensor, ranked)), num_keep).tolist() == expected
        fills = [Fraction(sum(token in expected for token in tokens), len(tokens)) for tokens in ranked]
        emptiest = ranked[fills.index(min(fills))]
        expected += [token for token in emptiest if token not in expected][:1]


@given(context=contexts(), density=st.sampled_from(DENSITIES))
def test_budgets_nest_while_the_frames_are_the_same(context, density):
    placed = context.place_ids >= 0
    context = replace(
        context,
        num_keep=0,
        frame_ids=context.frame_ids[placed],
        place_ids=context.place_ids[placed],
        scores=context.scores[placed],
        features=None,
    )
    kept = [
        GuidedFocus(density).select(replace(context, num_keep=num_keep)) for num_keep in range(context.num_tokens + 1)
    ]
    for fewer, more in itertools.pairwise(kept):
        if counts(context, fewer).keys() == counts(context, more).keys():
            assert set(fewer.tolist()) < set(more.tolist())


def leaning(num_frames: int, num_places: int, seed: int = 0) -> torch.Tensor:
    """Attention as it leans: five times as much at the bottom of a frame as at its top, and a little noise."""
    noise = 1 + 0.05 * torch.rand(num_frames, num_places, generator=torch.Generator().manual_seed(seed))
    return torch.linspace(1, 5, num_places) * noise


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("place", [0, 7, 13, 20, 24])
def test_sees_past_the_bias_to_the_bottom_of_a_frame(seed, place):
    scores = leaning(12, 25, seed)
    scores[:, place] *= 2  # a thing that stands still through the whole video
    context = grid(12, 25, 6, scores=scores.flatten())
    focused = GuidedFocus(density=0.08).select(context)  # two tokens of each of three frames
    assert len(counts(context, focused)) == 3
    assert context.place_ids[focused].tolist().count(place) == 3
    if place < 10:  # else it stands out by itself
        assert context.place_ids[Attention().select(context)].min() > 20


def test_a_frame_is_no_better_for_the_attention_that_all_its_tokens_get():
    scores = leaning(8, 6, seed=1)
    bright = scores * torch.tensor([1, 1, 9, 1, 3, 1, 1, 7.0])[:, None]
    dim, lit = (grid(8, 6, 24, scores=each.flatten()) for each in (scores, bright))
    assert torch.equal(GuidedFocus(density=0).select(dim), GuidedFocus(density=0).select(lit))
    assert not torch.equal(Attention().select(dim), Attention().select(lit))


@pytest.mark.parametrize("score", [0.0, 0.1])
@pytest.mark.parametrize("num_frames", [1, 3, 7])
@pytest.mark.parametrize("num_places", [1, 2, 8])
def test_scores_that_say_nothing_take_the_first_frames_and_places(num_frames, num_places, score):
    M = num_frames * num_places
    for num_keep in range(M + 1):
        context = grid(num_frames, num_places, num_keep, scores=torch.full((M,), score))
        kept = GuidedFocus(density=1).select(context)
        num_spans = math.ceil(num_keep / num_places)
        first = [math.floor(Fraction(i * num_frames, max(1, num_spans))) for i in range(num_spans)]
        places = [(place, frame) for place in range(num_places) for frame in first]  # a place of each before the next
        assert kept.tolist() == sorted(frame * num_places + place for place, frame in places[:num_keep])


# ---- tokens without a place


def test_tokens_without_a_place_get_their_share_rounded_up():
    scores = torch.rand(45)
    for num_keep, num_closing in {0: 0, 1: 1, 9: 1, 10: 2, 18: 2, 19: 3, 45: 5}.items():
        context = grid(8, 5, num_keep, num_placeless=5, scores=scores)
        kept = GuidedFocus().select(context)
        assert (kept >= 40).sum() == num_closing
    assert GuidedFocus().select(grid(0, 0, 3, num_placeless=5, scores=torch.ones(5))).tolist() == [0, 2, 4]


# ---- the trend


@given(
    st.lists(st.integers(0, 30), min_size=6, max_size=12, unique=True),
    st.tuples(*[st.integers(-9, 9)] * 3),
    st.integers(1, 3),
)
def test_a_parabola_is_nothing_but_trend(positions, parabola, repeats):
    at = torch.tensor(positions).repeat(repeats)
    levels = sum(c * at.double() ** power for power, c in enumerate(parabola))
    assert above_trend(levels, at).abs().max() < 1e-6


@given(st.lists(st.integers(0, 30), min_size=9, max_size=20, unique=True), st.data())
def test_what_stands_out_still_does(positions, data):
    at = torch.tensor(sorted(positions))
    inner = data.draw(st.integers(2, len(positions) - 3))
    assume(at[inner] - at[inner - 2] < 5)
    assume(at[inner + 2] - at[inner] < 5)  # a lone point is one that a parabola can follow
    levels = 0.1 * at.double()
    levels[inner] += 1
    assert int(above_trend(levels, at).argmax()) == inner


@pytest.mark.usefixtures("unchecked_annotations")
@pytest.mark.parametrize("density", [-0.1, 1.1, 50, float("nan"), True, "0.5", None])
def test_refuses_another_density(density):
    with pytest.raises(OptionError, match="density must be a number from 0 to 1"):
        GuidedFocus(density=density)
