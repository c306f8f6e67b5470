"""Drawn videos for the pruner tests: gaps in the frame ids, missing places, tokens without a place, ties."""

from __future__ import annotations

import torch
from hypothesis import strategies as st

from specvlm.pruning import PruningContext

FLOATS = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def grid(num_frames: int, num_places: int, num_keep: int, num_placeless: int = 0, **tensors) -> PruningContext:
    """A full video: every place in every frame, then the tokens without a place, in the last frame's name."""
    frame_ids = torch.arange(num_frames).repeat_interleave(num_places)
    place_ids = torch.arange(num_places).repeat(num_frames)
    return PruningContext(
        num_keep=num_keep,
        frame_ids=torch.cat([frame_ids, torch.full((num_placeless,), max(0, num_frames - 1))]),
        place_ids=torch.cat([place_ids, torch.full((num_placeless,), -1)]),
        **tensors,
    )


@st.composite
def contexts(draw: st.DrawFn, ties: bool = True) -> PruningContext:
    """Up to 6 frames of up to 6 places, some thinned out; scores and features are whole numbers if `ties`."""
    full = grid(draw(st.integers(0, 6)), draw(st.integers(0, 6)), 0, num_placeless=draw(st.integers(0, 2)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    stays = torch.rand(full.num_tokens, generator=generator) < draw(st.sampled_from([1.0, 1.0, 0.7, 0.3]))
    M = int(stays.sum())
    if ties:
        scores = torch.randint(0, draw(st.sampled_from([1, 3, 100])), (M,), generator=generator)
        features = torch.randint(-2, 3, (M, 3), generator=generator)
        dtypes = draw(st.sampled_from(FLOATS)), draw(st.sampled_from(FLOATS))
    else:
        scores = torch.rand(M, generator=generator, dtype=torch.float64)
        features = torch.randn(M, 8, generator=generator, dtype=torch.float64)
        dtypes = torch.float64, torch.float64
    return PruningContext(
        num_keep=draw(st.integers(0, M)),
        frame_ids=full.frame_ids[stays] * draw(st.integers(1, 3)) + draw(st.integers(0, 9)),
        place_ids=full.place_ids[stays],
        scores=scores.to(dtypes[0]),
        features=features.to(dtypes[1]),
    )
