"""Calls of `model.generate` on tiny models: what a checkpoint's processor makes of a video, and both loops on it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import transformers

import specvlm
import tiny
from specvlm import Stats


@lru_cache
def target() -> transformers.PreTrainedModel:
    return tiny.llava_model(0)


@lru_cache
def draft() -> transformers.PreTrainedModel:
    return tiny.noised(target(), 0.02)


def inputs(seed: int = 0, num_frames: int = 5, question: str = "what happens?", dtype=torch.float32) -> dict:
    """What a checkpoint's own processor makes of a video and a question."""
    processor = tiny.llava_processor()
    content = [{"type": "video"}] * bool(num_frames) + [{"type": "text", "text": question}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    frames = np.random.default_rng(seed).integers(0, 256, (num_frames, 20, 24, 3), dtype=np.uint8)
    videos = {"videos": [frames]} if num_frames else {}
    return dict(processor(text=[text], do_sample_frames=False, return_tensors="pt", **videos).to(dtype))


def same(model=None, given=None, *, seed: int = 0, ours: dict | None = None, **kwargs) -> tuple[list[int], Stats]:
    """Assert that both calls emit the same tokens and leave the same random state; returns tokens and our Stats."""
    model, given = model or target(), given or inputs()
    kwargs = {"max_new_tokens": 32} | kwargs
    stats = Stats()
    torch.manual_seed(seed)
    theirs = model.generate(**given, **kwargs)
    their_state = torch.get_rng_state()
    torch.manual_seed(seed)
    ours = {"draft_model": draft()} | (ours or {})
    ours = ({"pruning_ratio": 0.5} if ours["draft_model"] is not None else {}) | ours
    mine = model.generate(**given, **kwargs, custom_generate=specvlm.custom_generate, stats=stats, **ours)
    assert mine.tolist() == theirs.tolist()
    assert mine.dtype == theirs.dtype
    assert torch.equal(torch.get_rng_state(), their_state)
    tokens = mine[0, given["input_ids"].shape[1] :].tolist()
    assert stats.num_tokens == len(tokens)
    return tokens, stats
