"""A prompt of several clips: each is pruned in its own budget, whatever the others hold.

Two videos of a comparison are both seen, and a short clip is not crowded out by a long one.

Axes: M video tokens of the whole prompt (images too), K kept ones, D hidden size.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specvlm.pruning.base import Number, Pruner, PruningContext, num_to_keep


def num_kept_tokens(pruning_ratio: Number, clip_ids: Int[Tensor, " M"], spared: frozenset[int]) -> int:
    """How many video tokens are to stay when every clip that is not `spared` loses the fraction `pruning_ratio`."""
    return sum(
        len(tokens) if clip in spared else num_to_keep(len(tokens), pruning_ratio)
        for clip, tokens in _tokens_of_clips(clip_ids)
    )


def select_per_clip(
    pruner: Pruner,
    *,
    pruning_ratio: Number,
    clip_ids: Int[Tensor, " M"],
    spared: frozenset[int],
    frame_ids: Int[Tensor, " M"],
    place_ids: Int[Tensor, " M"],
    scores: Float[Tensor, " M"] | None = None,
    features: Float[Tensor, "M D"] | None = None,
) -> Int[Tensor, " K"]:
    """What the pruner keeps of each clip by itself: sorted indices into the M video tokens, on the CPU.

    A clip is all tokens of one id, wherever they stand. Of each the pruner is told what `PruningContext` tells, and no
    more; clips that are `spared` are kept whole, and it never sees them. Tensors may be on any device.
    Raises OptionError for what the pruner lacks, and for a ratio outside 0 to 1.
    """
    kept = [torch.empty(0, dtype=torch.long)]
    for clip, tokens in _tokens_of_clips(clip_ids):
        if clip in spared:
            kept.append(tokens)
            continue
        context = PruningContext(
            num_keep=num_to_keep(len(tokens), pruning_ratio),
            frame_ids=frame_ids[tokens.to(frame_ids.device)],
            place_ids=place_ids[tokens.to(place_ids.device)],
            scores=None if scores is None else scores[tokens.to(scores.device)],
            features=None if features is None else features[tokens.to(features.device)],
        )
        kept.append(tokens[pruner.select(context)])
    return torch.cat(kept).sort().values


def select_per_head(
    pruner: Pruner,
    *,
    pruning_ratio: Number,
    clip_ids: Int[Tensor, " M"],
    spared: frozenset[int],
    frame_ids: Int[Tensor, " M"],
    place_ids: Int[Tensor, " M"],
    scores: Float[Tensor, "layers kv_heads M"] | None = None,
    features: Float[Tensor, "M D"] | None = None,
) -> Int[Tensor, "layers kv_heads K"] | Int[Tensor, " K"]:
    """`select_per_clip` once for each layer and K/V head, by its own scores: the same K for all.

    Of a method that looks at no scores it is one choice [K], which holds for all. For a cache whose heads may keep
    different tokens, as in Sparse-to-Dense (arXiv:2505.19155). Errors as there.
    """
    select = partial(
        select_per_clip,
        pruner,
        pruning_ratio=pruning_ratio,
        clip_ids=clip_ids,
        spared=spared,
        frame_ids=frame_ids,
        place_ids=place_ids,
        features=features,
    )
    if scores is None or not pruner.needs_scores:
        return select()
    return torch.stack([torch.stack([select(scores=head) for head in layer]) for layer in scores.cpu()])


def _tokens_of_clips(clip_ids: Int[Tensor, " M"]) -> Iterator[tuple[int, Int[Tensor, " _"]]]:
    """Each clip's id and the indices of its tokens."""
    clip_ids = clip_ids.cpu()
    for clip in clip_ids.unique().tolist():
        yield clip, (clip_ids == clip).nonzero()[:, 0]
