"""What the GLM-V models (arXiv:2507.01006) have in common: Qwen-VL's ways, with one place-holder for frames and images,
and each frame's time behind it."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Bool, Int
from torch import Tensor, nn

from specvlm.errors import OptionError
from specvlm.families.base import PixelBudget
from specvlm.families.qwen.qwen_vl import VIDEO, QwenVL, size_of_all


class GlmV(QwenVL, abc.ABC):
    """M-RoPE, frames merged by two, a number or time written out behind each two: text, and never pruned."""

    @property
    def tower(self) -> Sequence[nn.Module]:
        return (self.model.model.visual,)

    def _kinds(self, inputs: Mapping[str, Tensor]) -> tuple[Bool[Tensor, " L"], Bool[Tensor, " L"]]:
        placed = inputs["input_ids"][0] == self.model.config.image_token_id
        if placed.any() and "mm_token_type_ids" not in inputs:
            raise OptionError("mm_token_type_ids are missing: pass on all that the processor returns")
        of_video = placed & (inputs["mm_token_type_ids"][0] == VIDEO) if placed.any() else placed
        of_image = placed & ~of_video
        if of_image.any() and of_video.any():
            raise OptionError(
                f"{self.model_type} answers about videos or images: stock's own forward can't tell the place-holders "
                "of both apart"
            )
        return of_image, of_video

    def _size(self, pixels: PixelBudget, num_frames: int) -> dict[str, int]:
        return size_of_all(self.video_processor, pixels, num_frames)

    def _states(self, output: Any, grid: Int[Tensor, "F 3"]) -> tuple[Tensor, ...]:
        return (output.pooler_output,)

    def _project(self, states: tuple[Tensor, ...]) -> tuple[Tensor, Tensor | None]:
        return states[0], None
