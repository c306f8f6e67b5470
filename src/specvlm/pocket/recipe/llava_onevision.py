"""The pocket pair as LLaVA-OneVision (arXiv:2408.03326): a Qwen2 decoder and a SigLIP tower, each frame by itself."""

from __future__ import annotations

from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    PreTrainedModel,
    Qwen2Config,
    Qwen2Tokenizer,
    SiglipVisionConfig,
)

from specvlm.pocket.recipe.architecture import DECODER, END, LAYERS, PAD, PATCH, Architecture, Opening, Role
from specvlm.pocket.world import NATIVE_SIZE

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + ' ' }}"
    "{% if message['content'] is string %}{{ '\n' + message['content'] }}{% else %}"
    "{% for part in message['content'] if part['type'] == 'video' %}{{ '<video>' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ '\n' + part['text'] }}{% endfor %}"
    "{% endif %}{{ '<|im_end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@final
class LlavaOnevision(Architecture):
    """About 9 M (target) or 2 M (draft) parameters; 9 tokens a frame, and one newline behind them all."""

    model_type: ClassVar[str] = "llava_onevision"
    model_class: ClassVar[type[PreTrainedModel]] = LlavaOnevisionForConditionalGeneration
    media_tokens: ClassVar[tuple[str, ...]] = ("<image>", "<video>")
    video_token: ClassVar[str] = "<video>"
    frames_per_token: ClassVar[int] = 1
    sees_borders: ClassVar[bool] = True

    def processor(self, tokenizer: Qwen2Tokenizer) -> LlavaOnevisionProcessor:
        size = {"height": NATIVE_SIZE, "width": NATIVE_SIZE}
        look = {"size": size, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
        return LlavaOnevisionProcessor(
            image_processor=LlavaOnevisionImageProcessor(**look, image_grid_pinpoints=[[NATIVE_SIZE, NATIVE_SIZE]]),
            tokenizer=tokenizer,
            video_processor=LlavaOnevisionVideoProcessor(**look),
            num_image_tokens=(NATIVE_SIZE // PATCH) ** 2,
            vision_feature_select_strategy="full",
            chat_template=CHAT_TEMPLATE,
        )

    def config(self, role: Role, ids: dict[str, int]) -> LlavaOnevisionConfig:
        text = Qwen2Config(**DECODER, num_hidden_layers=LAYERS[role], eos_token_id=ids[END], pad_token_id=ids[PAD])
        vision = SiglipVisionConfig(
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=3,
            num_attention_heads=2,
            image_size=NATIVE_SIZE,
            patch_size=PATCH,
            vision_use_head=False,
        )
        return LlavaOnevisionConfig(
            vision_config=vision,
            text_config=text,
            image_token_index=ids["<image>"],
            video_token_index=ids["<video>"],
            image_grid_pinpoints=[[NATIVE_SIZE, NATIVE_SIZE]],
            tie_word_embeddings=True,
        )

    def eyes(self, model: Any) -> tuple[nn.Module, ...]:
        return model.model.vision_tower, model.model.multi_modal_projector

    def outlet(self, model: Any) -> nn.Linear:
        return model.model.multi_modal_projector.linear_2

    def features(self, model: Any, pixels: Tensor) -> Tensor:
        return model.model.get_video_features(pixels).pooler_output

    def video_id(self, config: Any) -> int:
        return config.video_token_index

    def opening(self, tokenizer: Any, num_frames: int, fps: float) -> Opening:
        video: Any = tokenizer.convert_tokens_to_ids(self.video_token)
        ids = [*tokenizer("<|im_start|>user ").input_ids, *[video] * (self.num_video_tokens(num_frames) + 1)]
        return Opening(ids, torch.arange(len(ids))[None])
