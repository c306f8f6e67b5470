"""What changed since the frame before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Int
from torch import Tensor

from specvlm.pruning.base import Pruner, PruningContext, even_picks, ranking, register


@register
@final
@dataclass(frozen=True, slots=True)
class Similarity(Pruner):
    """Drops the tokens most like the token of the same place in the frame before: keeps what changed.

    Likeness is the cosine of the target's video embeddings. A token with nothing before it (the first frame,
    or no place at all) is new and is dropped last; when K is smaller than the number of those, an even stride
    over them is kept. Where the frame before lacks a place, the nearest earlier frame that has it counts.

    Temporal redundancy, as in video codecs; in Video-LLMs, DyCoke (arXiv:2411.15024), which merges them.
    """

    name: ClassVar[str] = "similarity"
    needs_features: ClassVar[bool] = True

    def select(self, context: PruningContext) -> Int[Tensor, " K"]:
        directions = self.directions_of(context)
        earlier, later = _same_place_pairs(context)
        is_new = torch.ones(context.num_tokens, dtype=torch.bool)
        is_new[later] = False
        new = is_new.nonzero()[:, 0]
        num_changed = context.num_keep - len(new)
        if num_changed <= 0:
            return new[even_picks(len(new), context.num_keep)]
        change = -(directions[earlier] * directions[later]).sum(-1).cpu()
        return torch.cat([new, later[ranking(change)[:num_changed]]]).sort().values


def _same_place_pairs(context: PruningContext) -> tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"]]:
    """Each token whose place was filled before, as (the latest one before it, the token itself)."""
    frame_ids, place_ids = context.frame_ids.cpu(), context.place_ids.cpu()
    order = frame_ids.sort(stable=True).indices
    order = order[place_ids[order].sort(stable=True).indices]  # by place, then by frame
    earlier, later = order[:-1], order[1:]
    is_pair = (place_ids[earlier] == place_ids[later]) & (place_ids[later] >= 0)
    later, ascending = later[is_pair].sort()
    return earlier[is_pair][ascending], later
