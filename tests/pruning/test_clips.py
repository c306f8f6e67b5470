"""Pruning a prompt of several clips, and pruning for each head: against the pruner on each clip, or head, alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, final

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pruning.contexts import contexts, grid
from pruning.test_contract import EVERY
from specvlm.errors import OptionError
from specvlm.pruning import (
    Attention,
    KeepAll,
    Pruner,
    PruningContext,
    Uniform,
    num_kept_tokens,
    num_to_keep,
    select_per_clip,
    select_per_head,
)

RATIOS = [0, 0.25, 0.5, 0.9, 1, 1.0]


@st.composite
def prompts(draw: st.DrawFn) -> dict[str, Tensor]:
    """Up to 4 clips with ids that skip numbers, one behind the other or with their tokens shuffled into each other."""
    clips = draw(st.lists(contexts(), max_size=4))
    gap = draw(st.integers(1, 3))
    columns: dict[str, list[Tensor]] = {
        name: [] for name in ("clip_ids", "frame_ids", "place_ids", "scores", "features")
    }
    for number, clip in enumerate(clips):
        columns["clip_ids"].append(torch.full((clip.num_tokens,), gap * number))
        columns["frame_ids"].append(clip.frame_ids + 100 * number)
        columns["place_ids"].append(clip.place_ids)
        columns["scores"].append(clip.scores.double())
        columns["features"].append(clip.features.double())
    empty = {"scores": torch.empty(0), "features": torch.empty(0, 3)}
    prompt = {
        name: torch.cat(parts) if parts else empty.get(name, torch.empty(0, dtype=torch.long))
        for name, parts in columns.items()
    }
    if draw(st.booleans()):
        generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
        order = torch.randperm(len(prompt["clip_ids"]), generator=generator)
        prompt = {name: column[order] for name, column in prompt.items()}
    return prompt


def one_by_one(pruner: Pruner, prompt: dict[str, Tensor], ratio: float, spared: frozenset[int]) -> list[int]:
    """Each clip cut out, pruned on its own and put back, a token at a time."""
    kept = []
    for clip in set(prompt["clip_ids"].tolist()):
        tokens = [i for i, other in enumerate(prompt["clip_ids"].tolist()) if other == clip]
        if clip in spared:
            kept += tokens
            continue
        rows = {name: column[tokens] for name, column in prompt.items() if name != "clip_ids"}
        context = PruningContext(num_to_keep(len(tokens), ratio), **rows)
        kept += [tokens[i] for i in pruner.select(context).tolist()]
    return sorted(kept)


every_pruner = pytest.mark.parametrize("pruner", EVERY, ids=str)


@every_pruner
@settings(max_examples=25)
@given(prompt=prompts(), ratio=st.sampled_from(RATIOS), spared=st.frozensets(st.integers(0, 9)))
def test_each_clip_is_pruned_by_itself(pruner, prompt, ratio, spared):
    before = {name: column.clone() for name, column in prompt.items()}
    kept = select_per_clip(pruner, pruning_ratio=ratio, spared=spared, **prompt)
    assert kept.tolist() == one_by_one(pruner, prompt, ratio, spared)
    assert kept.dtype == torch.long
    if not isinstance(pruner, KeepAll):
        assert len(kept) == num_kept_tokens(ratio, prompt["clip_ids"], spared)
    assert all(torch.equal(prompt[name], before[name]) for name in prompt)


@every_pruner
@settings(max_examples=15)
@given(context=contexts(), ratio=st.sampled_from(RATIOS), clip=st.integers(0, 5))
def test_one_clip_is_the_pruner_itself(pruner, context, ratio, clip):
    M = context.num_tokens
    columns = {name: getattr(context, name) for name in ("frame_ids", "place_ids", "scores", "features")}
    kept = select_per_clip(pruner, pruning_ratio=ratio, clip_ids=torch.full((M,), clip), spared=frozenset(), **columns)
    assert torch.equal(kept, pruner.select(PruningContext(num_to_keep(M, ratio), **columns)))


def two_videos_and_an_image() -> dict[str, Tensor]:
    """20, 4 and 10 tokens; the second clip is the image."""
    clips = [grid(4, 5, 0), grid(1, 4, 0), grid(2, 5, 0)]
    return {
        "clip_ids": torch.tensor([0] * 20 + [1] * 4 + [2] * 10),
        "frame_ids": torch.cat([clip.frame_ids + 10 * number for number, clip in enumerate(clips)]),
        "place_ids": torch.cat([clip.place_ids for clip in clips]),
    }


def test_a_clip_that_no_one_looks_at_keeps_its_share():
    prompt = two_videos_and_an_image() | {"scores": torch.arange(34.0)}
    assert Attention().select(PruningContext(7, prompt["frame_ids"], prompt["place_ids"], prompt["scores"])).min() == 27
    kept = select_per_clip(Attention(), pruning_ratio=0.8, spared=frozenset({1}), **prompt)
    assert kept.tolist() == [16, 17, 18, 19] + [20, 21, 22, 23] + [32, 33]


def test_budgets_are_rounded_for_each_clip():
    clip_ids = two_videos_and_an_image()["clip_ids"]
    assert num_kept_tokens(0.9, clip_ids, frozenset()) == 2 + 0 + 1
    assert num_kept_tokens(0.9, clip_ids, frozenset({1})) == 2 + 4 + 1
    assert num_kept_tokens(0.9, clip_ids, frozenset({0, 1, 2})) == 34
    assert num_kept_tokens(1, clip_ids, frozenset({7})) == 0
    assert num_kept_tokens(0.5, clip_ids[:0], frozenset({0})) == 0


@final
@dataclass(frozen=True, slots=True)
class Listening(Pruner):
    """Keeps an even stride, and remembers what it was told."""

    name: ClassVar[str] = "listening"
    told: list[PruningContext] = field(default_factory=list)

    def select(self, context: PruningContext) -> Tensor:
        self.told.append(context)
        return Uniform().select(context)


def test_a_pruner_never_sees_what_is_spared_or_belongs_to_another_clip():
    pruner = Listening()
    select_per_clip(pruner, pruning_ratio=0.5, spared=frozenset({1}), **two_videos_and_an_image())
    assert [context.num_keep for context in pruner.told] == [10, 5]
    assert [context.frame_ids.unique().tolist() for context in pruner.told] == [[0, 1, 2, 3], [20, 21]]
    assert all(context.scores is None and context.features is None for context in pruner.told)


def test_no_video_tokens_at_all():
    nothing = {name: column[:0] for name, column in two_videos_and_an_image().items()}
    for pruner in EVERY:
        assert select_per_clip(pruner, pruning_ratio=0.5, spared=frozenset(), **nothing).tolist() == []


@pytest.mark.parametrize("select", [select_per_clip, select_per_head])
def test_says_what_it_lacks(select):
    with pytest.raises(OptionError, match="'attention' needs the target's attention scores"):
        select(Attention(), pruning_ratio=0.5, spared=frozenset(), **two_videos_and_an_image())


@pytest.mark.parametrize("select", [select_per_clip, select_per_head])
def test_refuses_another_ratio(select):
    with pytest.raises(OptionError, match=r"pruning_ratio must be a number from 0 to 1, not 1\.5"):
        select(Uniform(), pruning_ratio=1.5, spared=frozenset(), **two_videos_and_an_image())


# ---- each head for itself


@every_pruner
@settings(max_examples=10)
@given(
    prompt=prompts(), ratio=st.sampled_from(RATIOS), spared=st.frozensets(st.integers(0, 9)), seed=st.integers(0, 99)
)
def test_each_head_selects_by_its_own_scores(pruner, prompt, ratio, spared, seed):
    options = {"pruning_ratio": ratio, "spared": spared}
    M = len(prompt["clip_ids"])
    scores = torch.randint(0, 9, (3, 2, M), generator=torch.Generator().manual_seed(seed)).float()
    kept = select_per_head(pruner, **options, **prompt | {"scores": scores})
    if not pruner.needs_scores:
        assert torch.equal(kept, select_per_clip(pruner, **options, **prompt))
        return
    assert kept.shape == (3, 2, num_kept_tokens(ratio, prompt["clip_ids"], spared))
    for layer in range(3):
        for head in range(2):
            alone = select_per_clip(pruner, **options, **prompt | {"scores": scores[layer, head]})
            assert torch.equal(kept[layer, head], alone)


def test_heads_that_look_elsewhere_keep_other_tokens():
    prompt = two_videos_and_an_image() | {"scores": torch.stack([torch.arange(34.0), -torch.arange(34.0) + 33])[None]}
    kept = select_per_head(Attention(), pruning_ratio=0.8, spared=frozenset({1}), **prompt)
    assert kept.tolist() == [
        [
            [16, 17, 18, 19] + [20, 21, 22, 23] + [32, 33],
            [0, 1, 2, 3] + [20, 21, 22, 23] + [24, 25],
        ]
    ]


def test_what_looks_at_no_scores_selects_once():
    pruner = Listening()
    prompt = two_videos_and_an_image() | {"scores": torch.rand(4, 2, 34)}
    kept = select_per_head(pruner, pruning_ratio=0.5, spared=frozenset(), **prompt)
    assert kept.shape == (17,)
    assert len(pruner.told) == 3  # once for each clip
