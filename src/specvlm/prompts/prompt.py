"""Prompt: everything a model is asked, once, before any weights are touched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from specvlm.errors import OptionError
from specvlm.prompts.album import Album
from specvlm.prompts.arriving import Arriving
from specvlm.prompts.policy import PositionPolicy
from specvlm.prompts.positions import compact


@dataclass(frozen=True, eq=False)
class Prompt:
    """One tokenised question about videos and images (or about none). Read-only: pruning makes a new one.

    `input_ids` are as long as the prompt that the model's own forward sees: every video token has its placeholder id,
    marked in `video_mask`. An image's tokens are video tokens too, of a clip of one frame. For each of the M video
    tokens, `clip_ids` tell the video or image it belongs to (0, 1, ... in the order of the prompt), `frame_ids` the
    frame (numbered through all clips; where a model merges frames in time, what it makes of them is one frame), and
    `place_ids` its place inside that frame (the same place in two frames of a clip has the same id; -1 for tokens
    without a place, such as LLaVA's closing newline).

    Axes: L prompt tokens, M video tokens, R rows of position ids (1, or 3 for M-RoPE: time, height, width).
    """

    input_ids: Int[Tensor, " L"]
    position_ids: Int[Tensor, "R L"]
    next_position: int
    """Where the first token of the answer stands, in every row."""
    video_mask: Bool[Tensor, " L"]
    clip_ids: Int[Tensor, " M"]
    frame_ids: Int[Tensor, " M"]
    place_ids: Int[Tensor, " M"]
    still_ids: frozenset[int] = frozenset()
    """The clips that are images."""
    model_inputs: Mapping[str, Tensor] = field(default_factory=dict)
    """What the processor made for `model.generate`, the whole ids included: the oracle and the vision tower read it."""
    text: str | None = None
    """What the chat template made, one place-holder a clip; None where the prompt came tokenised."""
    album: Album | None = None
    """Where what is made of its clips is kept on disk, if it is."""

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

    def pixels(self, name: str, start: int, stop: int, dim: int = 0) -> Tensor:
        """Rows `start` to `stop` of one of the `model_inputs`, along `dim`: where they are still being made, no others
        are waited for."""
        inputs = self.model_inputs
        tensor = inputs.until(stop) if isinstance(inputs, Arriving) and name == inputs.name else inputs[name]
        return tensor.narrow(dim, start, stop - start)

    def piece(self, start: int, end: int) -> Prompt:
        """The tokens `start` to `end` of it, for reading it piece by piece."""
        before, inside = int(self.video_mask[:start].sum()), int(self.video_mask[start:end].sum())
        video = slice(before, before + inside)
        return replace(
            self,
            input_ids=self.input_ids[start:end],
            position_ids=self.position_ids[:, start:end],
            video_mask=self.video_mask[start:end],
            clip_ids=self.clip_ids[video],
            frame_ids=self.frame_ids[video],
            place_ids=self.place_ids[video],
        )

    def kept_tokens(self, kept: Int[Tensor, " K"]) -> Int[Tensor, " pruned"]:
        """Indices into the prompt of what is left when only the video tokens `kept` stay: all text, K video tokens."""
        stays = ~self.video_mask
        stays[self.video_mask.nonzero()[:, 0][kept]] = True
        return stays.nonzero()[:, 0]

    def prune(self, kept: Int[Tensor, " K"], positions: PositionPolicy) -> Prompt:
        """The same question over the video tokens `kept` (sorted indices into the M video tokens).

        `original` leaves each token where it was in the full prompt, gaps and all, and the answer where it would be;
        `compact` closes the gaps (`positions.compact`).
        """
        if positions not in ("compact", "original"):
            raise OptionError(f"positions must be 'compact' or 'original', not {positions!r}")
        index = self.kept_tokens(kept)
        rows, following = self.position_ids[:, index], self.next_position
        if positions == "compact" and len(index):
            clips = torch.full_like(self.input_ids, -1)
            clips[self.video_mask] = self.clip_ids
            rows = compact(self.position_ids, clips, index)
        if positions == "compact":
            following = int(rows[0, -1]) + 1 if len(index) else 0
        return replace(
            self,
            input_ids=self.input_ids[index],
            position_ids=rows,
            next_position=following,
            video_mask=self.video_mask[index],
            clip_ids=self.clip_ids[kept],
            frame_ids=self.frame_ids[kept],
            place_ids=self.place_ids[kept],
        )
