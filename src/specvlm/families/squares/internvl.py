"""InternVL 3 and 3.5 (arXiv:2504.10479, 2508.18265): patches shuffled 2 x 2 into the depth; frames counted in words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar, final

from jaxtyping import Float
from torch import Tensor, nn

from specvlm.families.squares.squares import on
from specvlm.families.squares.told_by_words import ToldByWords

FRAME = re.compile(r"Frame(\d+): \S+$")
"""What the processor writes in front of a frame, and the token that opens it; an image has that token alone."""


@final
class InternVL(ToldByWords):
    """Stock `InternVLForConditionalGeneration`; its text model is Qwen2, Qwen3 or Qwen3-MoE."""

    model_type: ClassVar[str] = "internvl"
    inputs: ClassVar[tuple[str, ...]] = ("input_ids", "attention_mask", "pixel_values")

    @property
    def tokens_per_square(self) -> int:
        config, vision = self.model.config, self.model.config.vision_config
        (height, width), (tall, wide) = vision.image_size, vision.patch_size
        return int(height // tall * config.downsample_ratio) * int(width // wide * config.downsample_ratio)

    @property
    def tower(self) -> Sequence[nn.Module]:
        return (self.model.model.vision_tower,)

    def _told(self, words: str, last: str) -> tuple[bool, bool]:
        frame = FRAME.search(words)
        return frame is None or int(frame[1]) == 1, frame is None

    def _encode(self, squares: Float[Tensor, "squares 3 side side"]) -> Float[Tensor, "squares patches d"]:
        tower, config = self.model.model.vision_tower, self.model.config
        layer = config.vision_feature_layer
        output = tower(on(tower, squares), output_hidden_states=layer != -1)
        states = output.last_hidden_state if layer == -1 else output.hidden_states[layer]
        return states[:, 1:] if config.vision_feature_select_strategy == "default" else states

    def _project(self, states: Float[Tensor, "squares patches d"]) -> Float[Tensor, "squares tokens D"]:
        core, side = self.model.model, round(states.shape[1] ** 0.5)
        shuffled = core.pixel_shuffle(
            states.unflatten(1, (side, side)), scale_factor=self.model.config.downsample_ratio
        )
        return core.multi_modal_projector(shuffled.flatten(1, 2))
