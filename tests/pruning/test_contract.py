"""What holds for every pruner, whatever its idea."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings

from pruning.contexts import contexts, grid
from specvlm.errors import OptionError
from specvlm.pruning import (
    PRUNERS,
    Attention,
    AttentionReverse,
    Diverse,
    Frames,
    GuidedFocus,
    GuidedFrames,
    KeepAll,
    Pruner,
    PruningContext,
    Random,
    Similarity,
    Uniform,
    VerifierGuided,
    Window,
    num_to_keep,
)

EVERY: list[Pruner] = [
    Attention(),
    AttentionReverse(),
    Diverse(),
    Frames(),
    GuidedFocus(),
    GuidedFocus(density=0),
    GuidedFocus(density=0.4),
    GuidedFrames(),
    KeepAll(),
    Random(),
    Random(seed=7),
    Similarity(),
    Uniform(),
    VerifierGuided(),
    VerifierGuided(top_p=0),
    VerifierGuided(top_p=1),
    VerifierGuided(fraction=0.5),
    Window(),
    Window(where="middle"),
    Window(where="back"),
]
every_pruner = pytest.mark.parametrize("pruner", EVERY, ids=str)


def tensors(context: PruningContext) -> list[torch.Tensor]:
    return [context.frame_ids, context.place_ids, context.scores, context.features]


def test_these_are_all():
    assert {type(pruner) for pruner in EVERY} == set(PRUNERS.values())
    assert all(PRUNERS[name].name == name for name in PRUNERS)


@every_pruner
@settings(max_examples=50)
@given(context=contexts())
def test_keeps_k_tokens_in_order_always_the_same_and_leaves_its_inputs_alone(pruner, context):
    before = [tensor.clone() for tensor in tensors(context)]
    kept = pruner.select(context)

    num_kept = context.num_tokens if isinstance(pruner, KeepAll) else context.num_keep
    assert kept.shape == (num_kept,)
    assert kept.dtype == torch.long
    assert kept.device.type == "cpu"
    assert bool((kept.diff() > 0).all())  # sorted and unique
    assert bool(((kept >= 0) & (kept < context.num_tokens)).all())

    assert all(torch.equal(a, b) for a, b in zip(before, tensors(context), strict=True))
    again = replace(context, frame_ids=before[0], place_ids=before[1], scores=before[2], features=before[3])
    assert torch.equal(pruner.select(again), kept)


@every_pruner
@settings(max_examples=15)
@given(context=contexts())
def test_neither_the_scale_nor_the_dtype_of_the_inputs_matters(pruner, context):
    rescaled = replace(context, scores=context.scores.double() / 1024, features=context.features.double() * 4)
    assert torch.equal(pruner.select(rescaled), pruner.select(context))


@every_pruner
@settings(max_examples=15)
@given(context=contexts())
def test_keeps_everything_when_nothing_is_to_go(pruner, context):
    kept = pruner.select(replace(context, num_keep=context.num_tokens))
    assert kept.tolist() == list(range(context.num_tokens))


@every_pruner
@settings(max_examples=15)
@given(context=contexts())
def test_looks_only_at_what_it_says_it_needs(pruner, context):
    bare = replace(
        context,
        scores=context.scores if pruner.needs_scores else None,
        features=context.features if pruner.needs_features else None,
    )
    assert torch.equal(pruner.select(bare), pruner.select(context))


VIDEOS = [(0, 0, 0), (1, 1, 0), (0, 0, 1), (1, 9, 1), (8, 4, 1)]


@every_pruner
@pytest.mark.parametrize("ratio", [0, 0.5, 0.9, 1])
def test_every_ratio_of_every_video_in_bfloat16(pruner, ratio):
    for num_frames, num_places, num_placeless in VIDEOS:
        M = num_frames * num_places + num_placeless
        context = grid(
            num_frames,
            num_places,
            num_to_keep(M, ratio),
            num_placeless,
            scores=torch.rand(M, dtype=torch.bfloat16),
            features=torch.randn(M, 4, dtype=torch.bfloat16),
        )
        kept = pruner.select(context)
        assert len(set(kept.tolist())) == (M if isinstance(pruner, KeepAll) else context.num_keep)


@pytest.mark.parametrize("pruner", [p for p in EVERY if p.needs_scores or p.needs_features], ids=str)
def test_says_what_it_lacks_and_does_without_when_there_is_no_video(pruner):
    lacking = "scores" if pruner.needs_scores else "features"
    with pytest.raises(OptionError, match=f"'{pruner.name}' needs the target's .*{lacking}"):
        pruner.select(grid(2, 3, 4))
    assert len(pruner.select(grid(0, 0, 0))) == 0


@pytest.mark.parametrize("pruner", [p for p in EVERY if p.needs_scores], ids=str)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0])
def test_refuses_scores_that_are_none(pruner, bad):
    with pytest.raises(OptionError, match="finite scores of at least 0"):
        pruner.select(grid(1, 3, 2, scores=torch.tensor([0.5, bad, 0.5])))


@pytest.mark.parametrize("pruner", [p for p in EVERY if p.needs_features], ids=str)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_refuses_features_that_are_not_finite(pruner, bad):
    with pytest.raises(OptionError, match="finite features"):
        pruner.select(grid(1, 2, 1, features=torch.tensor([[1.0, 2.0], [bad, 1.0]])))


@pytest.mark.parametrize("num_keep", [-1, 7])
def test_a_context_keeps_no_more_than_there_is(num_keep):
    with pytest.raises(OptionError, match=f"from 0 to the 6 video tokens, not {num_keep}"):
        grid(2, 3, num_keep)


@pytest.mark.usefixtures("unchecked_annotations")
def test_a_context_has_one_row_for_each_token():
    with pytest.raises(OptionError, match="scores must have 6 rows"):
        grid(2, 3, 1, scores=torch.ones(5))


@every_pruner
def test_sums_itself_up_in_one_line(pruner):
    summary = pruner.summary()
    assert summary.startswith(("Keeps ", "Drops "))
    assert summary.endswith(".")
