"""VideoLLaMA 3 (arXiv:2501.13106): each frame's time in front of it, and of its tokens those that changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from specvlm.errors import OptionError
from specvlm.families.base import PixelBudget
from specvlm.families.qwen.qwen_vl import Frame, QwenVL
from specvlm.families.whereabouts import device_of_work


@final
class VideoLlama3(QwenVL):
    """Stock `VideoLlama3ForConditionalGeneration`: its text model is Qwen2, and counts tokens in one row.

    Its processor leaves out what looks as it did in the frame before (`video_compression_mask`): a frame has as many
    tokens as are left, each at the place that it has in the whole frame.
    """

    model_type: ClassVar[str] = "video_llama_3"
    position_rows: ClassVar[int] = 1
    inputs: ClassVar[tuple[str, ...]] = (
        "input_ids",
        "attention_mask",
        "pixel_values",
        "image_grid_thw",
        "image_merge_sizes",
        "pixel_values_videos",
        "video_grid_thw",
        "video_merge_sizes",
        "video_compression_mask",
    )

    @property
    def layout(self) -> Mapping[str, object]:
        if self._processor is None:
            return super().layout
        video, image = self.processor.video_processor, self.processor.image_processor
        merges = {"merge sizes": (video.merge_size, image.merge_size), "compression": video.use_token_compression}
        return {**super().layout, **merges}

    @property
    def tower(self) -> Sequence[nn.Module]:
        return (self.model.model.vision_model,)

    def _merges(self, name: str, inputs: Mapping[str, Tensor]) -> Int[Tensor, " clips"]:
        none = torch.zeros(0, dtype=torch.long)
        grids, merges = (inputs.get(f"{name}_{what}", none) for what in ("grid_thw", "merge_sizes"))
        if len(grids) != len(merges):
            raise OptionError(f"{name}_merge_sizes are of {len(merges)} clips, and {name}_grid_thw of {len(grids)}")
        return merges

    def _stays(self, name: str, inputs: Mapping[str, Tensor]) -> Bool[Tensor, " tokens"] | slice:
        mask = inputs.get("video_compression_mask") if name == "video" else None
        if mask is None:
            return slice(None)
        num_tokens = sum(frame.num_tokens for frame in self._frames(inputs) if frame.pixels == "pixel_values_videos")
        if len(mask) != num_tokens:
            raise OptionError(f"video_compression_mask is of {len(mask)} tokens, and the videos have {num_tokens}")
        return mask.bool()

    def _positions(self, inputs: Mapping[str, Tensor]) -> Int[Tensor, "1 L"]:
        return torch.arange(inputs["input_ids"].shape[1])[None]

    def _size(self, pixels: PixelBudget, num_frames: int) -> dict[str, int]:
        size = self.video_processor.size  # the least of a frame, and the most of all frames together
        most = size["longest_edge"] if pixels.max_pixels is None else pixels.max_pixels * num_frames
        return {
            "shortest_edge": pixels.min_pixels or size["shortest_edge"],
            "longest_edge": min(most, pixels.total_pixels or most),
        }

    def _look(self, pixels: Float[Tensor, "patches d"], frames: Sequence[Frame]) -> tuple[Tensor, ...]:
        tower = self.model.model.vision_model
        device = device_of_work(tower)
        grid = torch.tensor([[1, frame.height, frame.width] for frame in frames], device=device)
        merges = torch.tensor([frame.merge for frame in frames], device=device)
        output = tower(pixels.to(device, tower.dtype), grid_thw=grid, merge_sizes=merges, return_dict=True)
        return self._states(output, grid)

    def _states(self, output: Any, grid: Int[Tensor, "F 3"]) -> tuple[Tensor, ...]:
        return (output.last_hidden_state,)

    def _project(self, states: tuple[Tensor, ...]) -> tuple[Tensor, Tensor | None]:
        return self.model.model.projector(states[0]), None
