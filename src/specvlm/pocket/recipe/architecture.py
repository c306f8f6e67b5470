"""What the recipe has to know of an architecture: the same two models and words, in the shape of another family.

Everything is a stock transformers class, so that a saved checkpoint loads by `from_pretrained` with nothing of ours.
"""

from __future__ import annotations

import abc
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import PreTrainedModel, ProcessorMixin, Qwen2Tokenizer
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from specvlm.pocket.language import KINDS, ask
from specvlm.pocket.world import make_scene

Role = Literal["target", "draft"]

PATCH = 16
CELLS = 9
"""Video tokens that show one moment: as many as the world has cells."""
VOCABULARY = 544
WORDS = 539
END, PAD, BEGIN = "<|im_end|>", "<|endoftext|>", "<|im_start|>"
LAYERS: dict[Role, int] = {"target": 14, "draft": 2}
DECODER: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
    "bos_token_id": None,
}
MAX_NEW_TOKENS = 192
ATTENTION = {"text_config": "eager", "vision_config": "sdpa"}
"""How models are trained: with a mask, eager attention is the quickest on a CPU."""


@dataclass(frozen=True, slots=True)
class Opening:
    """How a chat begins, up to the last token that belongs to the video: `ids [V]`, `positions [R, V]`."""

    ids: list[int]
    positions: Tensor


class Architecture(abc.ABC):
    """One family's models, processor and positions, as the recipe uses them."""

    model_type: ClassVar[str]
    model_class: ClassVar[type[PreTrainedModel]]
    media_tokens: ClassVar[tuple[str, ...]]
    """Names of the tokens that stand for images and videos, or around them."""
    video_token: ClassVar[str]
    frames_per_token: ClassVar[int]
    """Consecutive frames that one video token shows."""
    sees_borders: ClassVar[bool]
    """Whether a token of the plain background can tell where in the frame it stands."""

    def tokenizer(self, num_scenes: int = 2000) -> Qwen2Tokenizer:
        """Learned from what is said about the first scenes: about one token a word. Media tokens come last."""
        learned = _learn_words(num_scenes)
        return Qwen2Tokenizer(
            vocab=learned["vocab"],
            merges=[tuple(pair) for pair in learned["merges"]],  # type: ignore[arg-type]
            eos_token=END,
            pad_token=PAD,
            additional_special_tokens=[BEGIN, *self.media_tokens],
            model_max_length=DECODER["max_position_embeddings"],
        )

    @abc.abstractmethod
    def processor(self, tokenizer: Qwen2Tokenizer) -> ProcessorMixin:
        """The processor of both models: frames become 96 x 96 pixels with values in [-1, 1]."""

    def build(self, role: Role, tokenizer: Qwen2Tokenizer, seed: int = 0) -> Any:
        """A freshly initialised model in float32."""
        ids: Any = {name: tokenizer.convert_tokens_to_ids(name) for name in (END, PAD, *self.media_tokens)}
        torch.manual_seed(seed)
        model = self.model_class(self.config(role, ids))
        generation: Any = model.generation_config
        generation.eos_token_id, generation.pad_token_id = ids[END], ids[PAD]
        generation.max_new_tokens = MAX_NEW_TOKENS
        return model

    @abc.abstractmethod
    def config(self, role: Role, ids: dict[str, int]) -> Any:
        """The configuration of a model; `ids` are those of the special tokens."""

    def load(self, path: Path) -> Any:
        """A checkpoint in bfloat16, as it is trained."""
        kwargs: Any = {"dtype": torch.bfloat16, "attn_implementation": ATTENTION}
        return self.model_class.from_pretrained(path, **kwargs)

    @abc.abstractmethod
    def eyes(self, model: Any) -> tuple[nn.Module, ...]:
        """The vision tower and what leads from it to the language model, in this order."""

    @abc.abstractmethod
    def outlet(self, model: Any) -> nn.Linear:
        """The last of the layers through which the eyes speak to the language model."""

    @abc.abstractmethod
    def features(self, model: Any, pixels: Tensor) -> Tensor:
        """Pixels `[B, T, 3, H, W]` as the language model gets them, `[B, V, 256]`: moments first, then cells."""

    @abc.abstractmethod
    def video_id(self, config: Any) -> int:
        """The id of `video_token`."""

    def num_video_tokens(self, num_frames: int) -> int:
        """Video tokens that show cells of `num_frames` frames."""
        return CELLS * num_frames // self.frames_per_token

    @abc.abstractmethod
    def opening(self, tokenizer: Any, num_frames: int, fps: float) -> Opening:
        """How a question about a video begins, of which `fps` frames a second were taken."""


def _learn_words(num_scenes: int) -> dict[str, Any]:
    """Vocabulary and merges of a byte-level BPE."""
    split = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(pattern=Regex(PRETOKENIZE_REGEX), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    learner = Tokenizer(models.BPE())
    learner.normalizer, learner.pre_tokenizer, learner.decoder = normalizers.NFC(), split, decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=WORDS, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    rng = random.Random(0)
    questions = (ask(make_scene(seed), kind, rng) for seed in range(num_scenes) for kind in KINDS)
    learner.train_from_iterator((f"{q.text}\n{q.answer}" for q in questions), trainer)
    return json.loads(learner.to_str())["model"]
