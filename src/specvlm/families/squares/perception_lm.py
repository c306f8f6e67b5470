"""PerceptionLM (arXiv:2504.13180): a tower of timm's, its patches pooled behind the projector; images in tiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, final

from jaxtyping import Float
from torch import Tensor, nn

from specvlm.families.squares.squares import Frame, Squares, on


@final
class PerceptionLM(Squares):
    """Stock `PerceptionLMForConditionalGeneration`."""

    model_type: ClassVar[str] = "perception_lm"
    inputs: ClassVar[tuple[str, ...]] = ("input_ids", "attention_mask", "pixel_values_videos", "pixel_values")

    @property
    def tokens_per_square(self) -> int:
        height, width = self.model.model.vision_tower.timm_model.patch_embed.grid_size
        pooled = self.model.config.projector_pooling_ratio
        return (height // pooled) * (width // pooled)

    @property
    def tower(self) -> Sequence[nn.Module]:
        return (self.model.model.vision_tower,)

    def _frames(self, inputs: Mapping[str, Tensor]) -> Sequence[Frame]:
        frames, token = self._of_videos(inputs), self.model.config.image_token_id
        num_videos = 0 if not frames else frames[-1].clip + 1
        num_images, tiles = (0, 0) if "pixel_values" not in inputs else inputs["pixel_values"].shape[:2]
        return frames + [
            Frame(num_videos + i, "pixel_values", i * tiles, tiles, tiles * self.tokens_per_square, token, still=True)
            for i in range(num_images)
        ]

    def _encode(self, squares: Float[Tensor, "squares 3 side side"]) -> Float[Tensor, "squares patches d"]:
        tower = self.model.model.vision_tower
        states = tower(on(tower, squares)).last_hidden_state
        return states[:, 1:] if self.model.config.vision_use_cls_token else states

    def _project(self, states: Float[Tensor, "squares patches d"]) -> Float[Tensor, "squares tokens D"]:
        return self.model.model.multi_modal_projector(states)
