"""Qwen2.5-VL (arXiv:2502.13923): a tower of windows, and positions in time that follow the clock."""

from __future__ import annotations

from typing import Any, ClassVar, final

from jaxtyping import Int
from torch import Tensor
from transformers.vision_utils import get_vision_window_index

from specvlm.families.qwen.qwen_vl import MergesLast


@final
class Qwen2_5VL(MergesLast):  # noqa: N801 (the name it was published under)
    """Stock `Qwen2_5_VLForConditionalGeneration`."""

    model_type: ClassVar[str] = "qwen2_5_vl"

    def _states(self, output: Any, grid: Int[Tensor, "F 3"]) -> tuple[Tensor, ...]:
        # The tower works window by window and hands its patches out in that order.
        config = self.model.config.vision_config
        merge = config.spatial_merge_size
        windows, _ = get_vision_window_index(grid, merge, config.window_size, config.patch_size)
        states = output.last_hidden_state.unflatten(0, (-1, merge * merge))
        return (states[windows.argsort().to(states.device)],)
