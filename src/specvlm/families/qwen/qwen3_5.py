"""Qwen3.5: three of four layers are gated delta networks (arXiv:2412.06464); frames and times are as in Qwen3-VL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, final

from jaxtyping import Int
from torch import Tensor, nn

from specvlm.families.base import PixelBudget
from specvlm.families.qwen.qwen_vl import MergesLast, size_of_all


class Recurrent(MergesLast):
    """Its tower merges patches behind its last layer and nowhere else: DeepStack is gone. Places on the learned grid of
    positions are added behind the patches, so that they belong to what two towers must share."""

    @property
    def tower(self) -> Sequence[nn.Module]:
        visual = self.model.model.visual
        return (visual.patch_embed, visual.pos_embed, visual.blocks)

    def _size(self, pixels: PixelBudget, num_frames: int) -> dict[str, int]:
        return size_of_all(self.video_processor, pixels, num_frames)

    def _states(self, output: Any, grid: Int[Tensor, "F 3"]) -> tuple[Tensor, ...]:
        unit = self.model.config.vision_config.spatial_merge_size**2
        return (output.last_hidden_state.unflatten(0, (-1, unit)),)


@final
class Qwen3_5(Recurrent):  # noqa: N801 (the name it was published under)
    """Stock `Qwen3_5ForConditionalGeneration`."""

    model_type: ClassVar[str] = "qwen3_5"
