"""SmolVLM2 (arXiv:2504.05299): patches shuffled into the depth; how many frames there are, and when, is written out."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, final

from jaxtyping import Float
from torch import Tensor, nn

from specvlm.errors import OptionError
from specvlm.families.base import Image
from specvlm.families.squares.squares import on
from specvlm.families.squares.told_by_words import ToldByWords
from specvlm.prompts.prompt import Prompt
from specvlm.video import Clip

FRAME = re.compile(r"(video\.\n)?\nFrame from \d+:\d\d:\S+$")
"""What the processor writes in front of a frame, and in front of a video's first one."""

TILE = re.compile(r"<row_(\d+)_col_(\d+)>$")
"""And in front of an image's tiles. Its last square, the image as a whole, begins a line of its own."""


@final
class SmolVLM(ToldByWords):
    """Stock `SmolVLMForConditionalGeneration`."""

    model_type: ClassVar[str] = "smolvlm"
    inputs: ClassVar[tuple[str, ...]] = ("input_ids", "attention_mask", "pixel_values", "pixel_attention_mask")
    text_part: ClassVar[str] = "text_model"
    heeds: ClassVar[Collection[str]] = ("num_frames", "fps", "max_frames")

    @property
    def tokens_per_square(self) -> int:
        return self.model.model.image_seq_len

    @property
    def tower(self) -> Sequence[nn.Module]:
        return (self.model.model.vision_model,)

    def prepare(self, videos: Sequence[Clip], question: str, *, images: Sequence[Image] = (), **more: Any) -> Prompt:
        if videos and images:
            raise OptionError("smolvlm's own processor takes videos or images: of both at once it loses the images")
        return super().prepare(videos, question, images=images, **more)

    def _told(self, words: str, last: str) -> tuple[bool, bool]:
        if (frame := FRAME.search(words)) is not None:
            return frame[1] is not None, False
        if (tile := TILE.search(words)) is not None:
            return (tile[1], tile[2]) == ("1", "1"), True
        return TILE.search(last) is None or not words.startswith("\n\n"), True

    def prompt_from_inputs(self, inputs: Mapping[str, Any]) -> Prompt:
        prompt = super().prompt_from_inputs(inputs)
        seen = prompt.model_inputs.get("pixel_attention_mask")
        frames = self._mentioned(prompt, prompt.frame_ids.unique())
        if seen is not None and not all(seen.flatten(0, -3)[frame.first].all() for frame in frames):
            raise OptionError("pixel_attention_mask hides a part of a square: smolvlm's own processor fills them whole")
        return prompt

    def _squares(self, inputs: Mapping[str, Tensor]) -> Sequence[int]:
        pixels = inputs.get("pixel_values")
        if pixels is None or len(pixels) == 1:
            return super()._squares(inputs)
        # Shorter videos are filled up with squares of zeros, which the model leaves out too.
        return (pixels.flatten(0, -4) != 0).flatten(1).any(1).nonzero()[:, 0].tolist()

    def _encode(self, squares: Float[Tensor, "squares 3 side side"]) -> Float[Tensor, "squares patches d"]:
        tower = self.model.model.vision_model
        return tower(on(tower, squares)).last_hidden_state

    def _project(self, states: Float[Tensor, "squares patches d"]) -> Float[Tensor, "squares tokens D"]:
        return self.model.model.connector(states)
