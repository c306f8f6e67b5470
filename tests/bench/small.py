"""Small models to widen, the shapes that they go into, and inputs for them."""

from __future__ import annotations

import mmap
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from transformers import LlavaOnevisionForConditionalGeneration, PreTrainedModel

import tiny
from specvlm import pocket
from specvlm.bench.widened.shapes import Shape

# Nothing is a multiple of the small models' sizes but what has to be, so that a slip in an index can't hide.
SAME_HEADS = Shape("made up, heads alike", 112, 5, 14, 2, 8, 150, 411, tied=False)
MORE_KV = Shape("made up, more K/V heads", 216, 4, 9, 3, 24, 100, 333, tied=False)
LONG_HEADS = Shape("made up, longer heads", 96, 3, 6, 2, 16, 64, 320, tied=False)
TIED = replace(SAME_HEADS, name="made up, tied", tied=True)
CASES: dict[str, tuple[str, Shape]] = {
    **{f"llava, {shape.name}": ("llava_onevision", shape) for shape in (SAME_HEADS, MORE_KV, LONG_HEADS)},
    **{f"qwen, {shape.name}": ("qwen2_5_vl", shape) for shape in (SAME_HEADS, MORE_KV, LONG_HEADS)},
    "llava, tied": ("llava_onevision, tied", TIED),
    "qwen, tied": ("qwen2_5_vl, tied", TIED),
}

POCKET_SHAPES = {
    "target": Shape("made up, longer heads", 512, 15, 4, 2, 128, 530, 600, tied=False),
    "draft": Shape("made up, heads alike", 384, 3, 6, 2, 64, 540, 570, tied=True),
}
"""For the pocket pair: as in the published pair, the target's heads become longer and its tables two."""


@lru_cache
def small(name: str) -> PreTrainedModel:
    """A tiny random model of a family in float64. Not to be written to."""
    family, _, tied = name.partition(", ")
    model = tiny.model(family, dtype=torch.float64)
    if tied:
        model.config.tie_word_embeddings = model.config.text_config.tie_word_embeddings = True
        model.lm_head.weight = model.model.language_model.embed_tokens.weight
    return model


def pocket_model(role: str, dtype: torch.dtype) -> PreTrainedModel:
    return LlavaOnevisionForConditionalGeneration.from_pretrained(pocket.path(role=role), dtype=dtype).eval()


def inputs(model: PreTrainedModel) -> dict[str, Any]:
    """What stock forwards of a tiny model take: text, a video of noise, more text."""
    processor: Any = tiny.processor(model.config.model_type)
    content = [{"type": "video"}, {"type": "text", "text": "what happens in the video ?"}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    frames = np.random.default_rng(0).integers(0, 256, (6, 3, 20, 24), dtype=np.uint8)
    video = {"total_num_frames": 6, "fps": 2.0, "frames_indices": list(range(6)), "duration": 3.0}
    made = processor(
        text=[text],
        videos=[torch.from_numpy(frames)],
        video_metadata=[video],
        do_sample_frames=False,
        return_tensors="pt",
    )
    return {name: value.double() if value.is_floating_point() else value for name, value in made.items()}


def never_written(num_bytes: int) -> torch.Tensor:
    """Zeros as the system hands them out: no memory stands behind them."""
    return torch.frombuffer(mmap.mmap(-1, num_bytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), dtype=torch.uint8)
