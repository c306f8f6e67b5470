"""The pocket pair's checkpoints before any training: tokenizer, processor, chat template and model configurations.

Everything is a stock transformers class, so that a saved checkpoint loads by `from_pretrained` with nothing of ours.
"""

from __future__ import annotations

import json
import random
from typing import Any, Literal

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    Qwen2Config,
    Qwen2Tokenizer,
    SiglipVisionConfig,
)
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from specvlm.pocket.language import KINDS, ask
from specvlm.pocket.world import NATIVE_SIZE, make_scene

Role = Literal["target", "draft"]

PATCH = 16
VOCABULARY = 544
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>")

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

LAYERS: dict[Role, int] = {"target": 14, "draft": 2}


def build_tokenizer(num_scenes: int = 2000) -> Qwen2Tokenizer:
    """A byte-level BPE tokenizer learned from what is said about the first scenes: about one token a word."""
    split = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(pattern=Regex(PRETOKENIZE_REGEX), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    learner = Tokenizer(models.BPE())
    learner.normalizer, learner.pre_tokenizer, learner.decoder = normalizers.NFC(), split, decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    rng = random.Random(0)
    questions = (ask(make_scene(seed), kind, rng) for seed in range(num_scenes) for kind in KINDS)
    learner.train_from_iterator((f"{q.text}\n{q.answer}" for q in questions), trainer)
    learned = json.loads(learner.to_str())["model"]
    return Qwen2Tokenizer(
        vocab=learned["vocab"],
        merges=[tuple(pair) for pair in learned["merges"]],  # type: ignore[arg-type]
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", "<image>", "<video>"],
        model_max_length=4096,
    )


def build_processor(tokenizer: Qwen2Tokenizer) -> LlavaOnevisionProcessor:
    """The processor of both models: frames of any size become `NATIVE_SIZE` squares with values in [-1, 1]."""
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


def build_model(role: Role, tokenizer: Qwen2Tokenizer, seed: int = 0) -> LlavaOnevisionForConditionalGeneration:
    """A freshly initialised model of about 9 M (target) or 2 M (draft) parameters, in float32."""
    ids: dict[str, Any] = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL}
    text = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=LAYERS[role],
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=ids["<|im_end|>"],
        pad_token_id=ids["<|endoftext|>"],
    )
    vision = SiglipVisionConfig(
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=NATIVE_SIZE,
        patch_size=PATCH,
        vision_use_head=False,
    )
    config = LlavaOnevisionConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=ids["<image>"],
        video_token_index=ids["<video>"],
        image_grid_pinpoints=[[NATIVE_SIZE, NATIVE_SIZE]],
        tie_word_embeddings=True,
    )
    torch.manual_seed(seed)
    model = LlavaOnevisionForConditionalGeneration(config)
    model.generation_config.eos_token_id = ids["<|im_end|>"]
    model.generation_config.pad_token_id = ids["<|endoftext|>"]
    model.generation_config.max_new_tokens = 192
    return model
