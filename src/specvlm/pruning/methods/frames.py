"""Whole frames at even distances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from jaxtyping import Int
from torch import Tensor

from specvlm.pruning.base import Pruner, PruningContext, even_picks, register
from specvlm.pruning.framewise import fill_frames, frame_tokens, whole_frames


@register
@final
@dataclass(frozen=True, slots=True)
class Frames(Pruner):
    """Keeps whole frames, evenly spaced in time, and spends what is left on one more at even places.

    The first and the last frame are among them (a single one is the middle one); the frame that gets the rest
    is the farthest from those. The draft sees each kept frame as it was trained to, and its vision tower can
    skip all others. Needs nothing of the target.

    Frame sampling, as every Video-LLM does it, in place of SpecVLM's choice of tokens (arXiv:2508.16201).
    """

    name: ClassVar[str] = "frames"

    def select(self, context: PruningContext) -> Int[Tensor, " K"]:
        frames = frame_tokens(context)
        if not frames:
            return fill_frames(context, frames, [])
        picks = even_picks(len(frames), max(1, whole_frames(context, frames))).tolist()
        others = [i for i in range(len(frames)) if i not in picks]
        others.sort(key=lambda i: min(abs(i - pick) for pick in picks), reverse=True)
        return fill_frames(context, frames, picks + others)
