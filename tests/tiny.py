"""Tiny random models of every family, with processors of their own: no download, and forwards of milliseconds."""

from __future__ import annotations

import copy
import hashlib
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ProcessorMixin,
    Qwen2Config,
    SiglipVisionConfig,
)

from specvlm.families.base import Family
from specvlm.families.llava_onevision import LlavaOnevision
from specvlm.pipeline import SpecVLM
from specvlm.video import Video, load

VOCABULARY = 320
IMAGE_SIZE = 16
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% for part in message['content'] %}"
    "{{ '<video>' if part['type'] == 'video' else part['text'] }}{% endfor %}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@lru_cache
def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE over all bytes and a few words, so that any text can be asked and any answer decoded."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learner.decoder = decoders.ByteLevel()
    special = ["<pad>", "<|im_start|>", "<|im_end|>", "<image>", "<video>"]
    words = [
        "what happens in the video ?",
        "a red ball rolls to the left and stops",
        "describe it in detail, größer 深い",
    ]
    learner.train_from_iterator(
        words * 4,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY - 8,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(tokenizer_object=learner, eos_token="<|im_end|>", pad_token="<pad>")


def llava_processor() -> ProcessorMixin:
    look = {
        "size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    return LlavaOnevisionProcessor(
        image_processor=LlavaOnevisionImageProcessor(**look, image_grid_pinpoints=[[IMAGE_SIZE, IMAGE_SIZE]]),
        tokenizer=tokenizer(),
        video_processor=LlavaOnevisionVideoProcessor(**look),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=CHAT_TEMPLATE,
    )


def llava_model(
    seed: int = 0,
    *,
    layers: int = 3,
    hidden: int = 32,
    heads: int = 4,
    kv_heads: int = 2,
    dtype: torch.dtype = torch.float32,
    vocabulary: int = VOCABULARY,
) -> PreTrainedModel:
    """Random weights, large enough for answers that wander; 4 video tokens a frame and a newline."""
    ids = {token: tokenizer().convert_tokens_to_ids(token) for token in ("<image>", "<video>", "<|im_end|>", "<pad>")}
    text = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=4096,
        initializer_range=0.4,
        bos_token_id=None,
        eos_token_id=ids["<|im_end|>"],
        pad_token_id=ids["<pad>"],
    )
    vision = SiglipVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        image_size=IMAGE_SIZE, patch_size=4, vision_use_head=False, initializer_range=0.4,
    )  # fmt: skip
    config = LlavaOnevisionConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=ids["<image>"],
        video_token_index=ids["<video>"],
        image_grid_pinpoints=[[IMAGE_SIZE, IMAGE_SIZE]],
        tie_word_embeddings=False,
    )
    torch.manual_seed(seed)
    model = LlavaOnevisionForConditionalGeneration(config).to(dtype).eval()
    model.generation_config.eos_token_id = ids["<|im_end|>"]
    model.generation_config.pad_token_id = ids["<pad>"]
    return model


def noised(model: PreTrainedModel, scale: float, seed: int = 0) -> PreTrainedModel:
    """A copy whose weights are off by `scale` of their own spread: a draft that is often, not always, right."""
    twin = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in twin.parameters():
            noise = torch.randn(weight.shape, generator=generator).to(weight.dtype)
            weight += scale * noise * (weight.std() if weight.numel() > 1 else 0)
    return twin


def llava(model: PreTrainedModel, name: str = "tiny") -> Family:
    return LlavaOnevision(model, llava_processor(), name)


def llava_pair(target: PreTrainedModel, draft: PreTrainedModel | None) -> SpecVLM:
    return SpecVLM(llava(target, "tiny target"), llava(draft, "tiny draft") if draft is not None else None)


def video(num_frames: int = 6, seed: int = 0) -> Video:
    """Noise, a different one for each seed: every frame and place matters."""
    frames = np.random.default_rng(seed).integers(0, 256, (num_frames, 20, 24, 3), dtype=np.uint8)
    return load(frames)


def fingerprint(model: PreTrainedModel) -> dict[str, Any]:
    """All of a model in which its owner could notice a change."""
    tensors = {**model.state_dict(), **dict(model.named_buffers())}
    configs = [model.config, model.config.text_config, model.config.vision_config, model.model.language_model.config]
    return {
        "tensors": {
            name: hashlib.sha256(tensor.view(torch.uint8).numpy()).hexdigest() for name, tensor in tensors.items()
        },
        "modules": {
            name: (module.training, sorted(vars(module)), len(module._forward_hooks), len(module._forward_pre_hooks))
            for name, module in model.named_modules()
        },
        "configs": [(config.to_dict(), config._attn_implementation, sorted(vars(config))) for config in configs],
        "generation": model.generation_config.to_dict(),
        "gradients": [(weight.requires_grad, weight.grad) for weight in model.parameters()],
    }
