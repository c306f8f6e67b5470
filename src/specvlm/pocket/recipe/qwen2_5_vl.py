"""The pocket pair as Qwen2.5-VL (arXiv:2502.13923): windows in the tower, two frames a token, M-RoPE by the clock."""

from __future__ import annotations

from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn
from transformers import (
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from specvlm.pocket.recipe.architecture import CELLS, DECODER, END, LAYERS, PAD, PATCH, Architecture, Opening, Role

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + ' ' }}"
    "{% if message['content'] is string %}{{ '\n' + message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<|vision_start|><|image_pad|><|vision_end|>' }}"
    "{% elif part['type'] == 'video' %}{{ '<|vision_start|><|video_pad|><|vision_end|>' }}"
    "{% elif part['type'] == 'text' %}{{ '\n' + part['text'] }}{% endif %}"
    "{% endfor %}"
    "{% endif %}{{ '<|im_end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

MERGE = FRAMES = 2
TOKENS_PER_SECOND = 12
"""Keeps moments apart up to 24 frames a second, which is also what the processor assumes of a video without a clock."""
PIXELS = {"shortest_edge": 8192, "longest_edge": 10240}
"""Pixels of a frame at least and at most: squares of every size become 96 x 96."""
MROPE_SECTION = [12, 10, 10]
"""More of the quick frequencies for time than for height and width: three rows and columns need few."""


@final
class Qwen25VL(Architecture):
    """About 9.6 M (target) or 2.5 M (draft) parameters; 9 tokens for every two frames."""

    model_type: ClassVar[str] = "qwen2_5_vl"
    model_class: ClassVar[type[PreTrainedModel]] = Qwen2_5_VLForConditionalGeneration
    media_tokens: ClassVar[tuple[str, ...]] = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
    video_token: ClassVar[str] = "<|video_pad|>"
    frames_per_token: ClassVar[int] = FRAMES
    sees_borders: ClassVar[bool] = False  # the tower knows distances only: a plain frame looks the same everywhere

    def processor(self, tokenizer: Qwen2Tokenizer) -> Qwen2_5_VLProcessor:
        look: Any = {
            "size": PIXELS,
            "patch_size": PATCH,
            "merge_size": MERGE,
            "temporal_patch_size": FRAMES,
            "image_mean": [0.5] * 3,
            "image_std": [0.5] * 3,
        }
        return Qwen2_5_VLProcessor(
            image_processor=Qwen2VLImageProcessor(**look),
            tokenizer=tokenizer,
            video_processor=Qwen2VLVideoProcessor(**look, cap_pixels_per_frame=False),
            chat_template=CHAT_TEMPLATE,
        )

    def config(self, role: Role, ids: dict[str, int]) -> Qwen2_5_VLConfig:
        text = {
            **DECODER,
            "num_hidden_layers": LAYERS[role],
            "eos_token_id": ids[END],
            "pad_token_id": ids[PAD],
            "rms_norm_eps": 1e-6,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": MROPE_SECTION},
        }
        vision = {
            "depth": 4,
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_heads": 4,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": FRAMES,
            "tokens_per_second": TOKENS_PER_SECOND,
            # Of the three by three cells a window holds two by two, and what the last column and row leave.
            "window_size": 2 * MERGE * PATCH,
            "fullatt_block_indexes": [1, 3],
            "out_hidden_size": DECODER["hidden_size"],
        }
        return Qwen2_5_VLConfig(
            text_config=text,
            vision_config=vision,
            image_token_id=ids["<|image_pad|>"],
            video_token_id=ids["<|video_pad|>"],
            vision_start_token_id=ids["<|vision_start|>"],
            vision_end_token_id=ids["<|vision_end|>"],
            tie_word_embeddings=True,
        )

    def eyes(self, model: Any) -> tuple[nn.Module, ...]:
        return (model.model.visual,)

    def outlet(self, model: Any) -> nn.Linear:
        return model.model.visual.merger.mlp[2]

    def features(self, model: Any, pixels: Tensor) -> Tensor:
        sizes = {"patch_size": PATCH, "merge_size": MERGE, "temporal_patch_size": FRAMES}
        patches, *grid = Qwen2VLVideoProcessor().patchify(pixels, **sizes)
        grids = torch.tensor([grid] * len(pixels))
        return torch.stack(model.model.get_video_features(patches.flatten(0, 1), grids).pooler_output)

    def video_id(self, config: Any) -> int:
        return config.video_token_id

    def opening(self, tokenizer: Any, num_frames: int, fps: float) -> Opening:
        video: Any = tokenizer.convert_tokens_to_ids(self.video_token)
        before = tokenizer("<|im_start|>user <|vision_start|>").input_ids
        after = tokenizer("<|vision_end|>").input_ids
        steps = num_frames // FRAMES
        ids = [*before, *[video] * self.num_video_tokens(num_frames), *after]

        # As `get_rope_index` has it, in float32 too: time goes by the clock, the text behind by the width of a frame.
        start, side = len(before), round(CELLS**0.5)
        moments = (torch.arange(steps) * (TOKENS_PER_SECOND * torch.tensor(FRAMES / fps))).long()
        time, row, column = torch.meshgrid(moments, torch.arange(side), torch.arange(side), indexing="ij")
        places = torch.stack([time, row, column]).flatten(1) + start
        end = torch.arange(len(after)) + start + side
        positions = [torch.arange(start).expand(3, -1), places, end.expand(3, -1)]
        return Opening(ids, torch.cat(positions, 1))
