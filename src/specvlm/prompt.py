"""Prompt: everything a model is asked, once, before any weights are touched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from specvlm.errors import OptionError

PositionPolicy = Literal["compact", "original"]


@dataclass(frozen=True, eq=False)
class Prompt:
    """One tokenised question about one video (or about none). Read-only: pruning makes a new one.

    `input_ids` are as long as the prompt that the model's own forward sees: every video token has its
    placeholder id, marked in `video_mask`. `frame_ids` and `place_ids` tell, for each of the M video
    tokens, the frame it belongs to and its place inside that frame (the same place in two frames has the
    same id; -1 for tokens without a place, such as LLaVA's closing newline).

    Axes: L prompt tokens, M video tokens, R rows of position ids (1, or 3 for M-RoPE).
    """

    input_ids: Int[Tensor, " L"]
    position_ids: Int[Tensor, "R L"]
    video_mask: Bool[Tensor, " L"]
    frame_ids: Int[Tensor, " M"]
    place_ids: Int[Tensor, " M"]
    model_inputs: Mapping[str, Tensor] = field(default_factory=dict)
    """What the processor made for `model.generate` besides the ids: the oracle and the vision tower read it."""

    @property
    def num_tokens(self) -> int:
        return self.input_ids.shape[0]

    @property
    def num_video_tokens(self) -> int:
        return self.frame_ids.shape[0]

    @property
    def split(self) -> int:
        """Length of the prompt up to and including its last video token (0 without a video)."""
        places = self.video_mask.nonzero()
        return int(places[-1]) + 1 if len(places) else 0

    def kept_tokens(self, kept: Int[Tensor, " K"]) -> Int[Tensor, " pruned"]:
        """Indices into the prompt of what is left when only the video tokens `kept` stay: all text, K video tokens."""
        stays = ~self.video_mask
        stays[self.video_mask.nonzero()[:, 0][kept]] = True
        return stays.nonzero()[:, 0]

    def prune(self, kept: Int[Tensor, " K"], positions: PositionPolicy) -> Prompt:
        """The same question over the video tokens `kept` (sorted indices into the M video tokens).

        `original` leaves each token where it was in the full prompt, gaps and all; `compact` closes the gaps,
        row by row: the i-th smallest distinct position of a row becomes i, so order and ties survive.
        """
        if positions not in ("compact", "original"):
            raise OptionError(f"positions must be 'compact' or 'original', not {positions!r}")
        index = self.kept_tokens(kept)
        rows = self.position_ids[:, index]
        if positions == "compact":
            rows = torch.stack([torch.unique(row, return_inverse=True)[1] for row in rows])
        return replace(
            self,
            input_ids=self.input_ids[index],
            position_ids=rows,
            video_mask=self.video_mask[index],
            frame_ids=self.frame_ids[kept],
            place_ids=self.place_ids[kept],
        )
