"""Qwen2-VL (arXiv:2409.12191), where M-RoPE began: time is counted in frames."""

from __future__ import annotations

from typing import Any, ClassVar, final

from jaxtyping import Int
from torch import Tensor

from specvlm.families.qwen.qwen_vl import MergesLast


@final
class Qwen2VL(MergesLast):
    """Stock `Qwen2VLForConditionalGeneration`."""

    model_type: ClassVar[str] = "qwen2_vl"

    def _states(self, output: Any, grid: Int[Tensor, "F 3"]) -> tuple[Tensor, ...]:
        unit = self.model.config.vision_config.spatial_merge_size**2
        return (output.last_hidden_state.unflatten(0, (-1, unit)),)
