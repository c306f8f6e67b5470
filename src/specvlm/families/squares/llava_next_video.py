"""LLaVA-NeXT-Video (arXiv:2407.07895): CLIP frames pooled 2 x 2; images in tiles, with a newline behind each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.models.llava_next_video.modeling_llava_next_video import image_size_to_num_patches

from specvlm.families.squares.squares import SQUARES_PER_BATCH, Frame, Squares, on
from specvlm.families.whereabouts import weight_of


@final
class LlavaNextVideo(Squares):
    """Stock `LlavaNextVideoForConditionalGeneration`."""

    model_type: ClassVar[str] = "llava_next_video"
    inputs: ClassVar[tuple[str, ...]] = (
        "input_ids",
        "attention_mask",
        "pixel_values_videos",
        "pixel_values",
        "image_sizes",
    )

    @property
    def tokens_per_square(self) -> int:
        config = self.model.config
        side = config.vision_config.image_size // config.vision_config.patch_size
        return (side // config.spatial_pool_stride) ** 2

    @property
    def tower(self) -> Sequence[nn.Module]:
        return (self.model.model.vision_tower,)

    def _frames(self, inputs: Mapping[str, Tensor]) -> Sequence[Frame]:
        config, frames = self.model.config, self._of_videos(inputs)
        num_videos = 0 if not frames else frames[-1].clip + 1
        for i, size in enumerate(map(tuple, inputs.get("image_sizes", torch.zeros(0, 2)).tolist())):
            tiles = image_size_to_num_patches(size, config.image_grid_pinpoints, config.vision_config.image_size)
            side = config.vision_config.image_size // config.vision_config.patch_size
            num_tokens = len(self._packed(torch.zeros(tiles, side * side, 1), size, torch.zeros(1)))
            first = i * inputs["pixel_values"].shape[1]  # images with fewer tiles than others are filled up
            frames.append(
                Frame(num_videos + i, "pixel_values", first, tiles, num_tokens, config.image_token_id, True, size)
            )
        return frames

    def _packed(
        self, tiles: Float[Tensor, "tiles patches D"], size: tuple[int, int], newline: Float[Tensor, " D"]
    ) -> Float[Tensor, "tokens D"]:
        """The tokens of an image of this size: what filled up its tiles is cut off, each row ends in a newline."""
        strategy = self.model.config.vision_feature_select_strategy
        return self.model.model.pack_image_features([tiles], [size], strategy, image_newline=newline)[0][0]

    def _encode(self, squares: Float[Tensor, "squares 3 side side"]) -> Float[Tensor, "squares patches d"]:
        tower, config = self.model.model.vision_tower, self.model.config
        hidden = tower(on(tower, squares), output_hidden_states=True).hidden_states
        layers = config.vision_feature_layer
        states = torch.cat([hidden[layer] for layer in ([layers] if isinstance(layers, int) else layers)], dim=-1)
        return states[:, 1:] if config.vision_feature_select_strategy == "default" else states

    def _project(self, states: Float[Tensor, "squares patches d"]) -> Float[Tensor, "squares tokens D"]:
        return self.model.model.multi_modal_projector(self.model.model.vision_resampler(states))

    def _features(
        self, states: Float[Tensor, "squares patches d"], frames: Sequence[Frame]
    ) -> Float[Tensor, "tokens D"]:
        if not frames[0].still:
            return super()._features(states, frames)
        core = self.model.model
        tiles = torch.cat([core.multi_modal_projector(batch) for batch in states.split(SQUARES_PER_BATCH)])
        each = tiles.split([frame.num_squares for frame in frames])
        newline = weight_of(core, "image_newline").to(tiles)
        return torch.cat([self._packed(own, frame.size, newline) for own, frame in zip(each, frames, strict=True)])
