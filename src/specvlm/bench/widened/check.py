"""Does a widened pair cost what the real one would, and say what the pocket pair says?"""

from __future__ import annotations

import logging
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, DynamicCache, PreTrainedModel

from specvlm import pocket
from specvlm.bench.widened.blank_frames import CODED_SIZE, eyes_of, learn_detector, long_film, write_mp4
from specvlm.bench.widened.blindness import Detector
from specvlm.bench.widened.memory_pages import own_bytes
from specvlm.bench.widened.noise import Noise
from specvlm.bench.widened.shapes import Pair, Shape
from specvlm.bench.widened.widening import fill, widen
from specvlm.engine.host.memory import resident_memory
from specvlm.families.releases import with_cache
from specvlm.pipeline import load
from specvlm.pocket.world import make_scene, render

log = logging.getLogger("specvlm.bench.widened.check")

QUESTION = "Describe the video in detail."

SOME_TOKENS = 256
"""Ids that every vocabulary has: the time of a step doesn't depend on what is said."""

SHORT, LONG = 32, 64
"""Frames of the film that a pocket model is asked about; and with blank frames, for one that passes over those."""

TOLERANCE = 0.03
"""How much a step of a widened model may differ from one of random weights in the same memory."""


@dataclass(frozen=True)
class Check:
    """What was found of one widened model. Bytes are of its language model, seconds of steps over one token."""

    shape: Shape
    num_parameters: int
    weight_bytes: int
    own_bytes: int
    build_seconds: float
    step_seconds: float
    random_step_seconds: float
    num_same_tokens: int
    num_tokens: int

    @property
    def cost_ratio(self) -> float:
        """A step of the widened model over one of random weights."""
        return self.step_seconds / self.random_step_seconds

    @property
    def passed(self) -> bool:
        """The shape and all of its memory are there, and cost what they should. What it says is reported, not judged:
        in bfloat16 a token may flip."""
        whole = self.num_parameters == self.shape.num_parameters and self.own_bytes == self.weight_bytes
        return whole and abs(self.cost_ratio - 1) <= TOLERANCE

    def report(self) -> str:
        memory = f"{self.own_bytes:,} of its {self.weight_bytes:,} bytes in pages of its own"
        times = f"{1e3 * self.step_seconds:.1f} ms a step, {1e3 * self.random_step_seconds:.1f} ms with random weights"
        return "\n".join(
            [
                f"{self.shape.name}: {'passed' if self.passed else 'FAILED'}",
                f"  {self.num_parameters:,} parameters in the language model, {self.shape.num_parameters:,} published",
                f"  {memory}, written in {self.build_seconds:.1f} s",
                f"  {times} in the same memory: {self.cost_ratio:.3f} x",
                f"  the first {self.num_same_tokens} tokens of up to {self.num_tokens} are the pocket model's",
            ]
        )


def check_pair(pair: Pair, *, dtype: torch.dtype, cached: int, steps: int, max_new_tokens: int) -> list[Check]:
    """Widen the pocket pair to `pair`, hold both in memory at once, and check the target, then the draft.

    Errors: ModelError if there is no pocket pair of the family.
    """
    paths = [pocket.path(pair.family, role) for role in pocket.ROLES]
    models: list[Any] = [
        AutoModelForImageTextToText.from_pretrained(path, dtype=dtype, trust_remote_code=False).eval() for path in paths
    ]
    built = []
    for model, shape in zip(models, (pair.target, pair.draft), strict=True):
        detector = learn_detector(model)
        start = time.perf_counter()
        wide = widen(model, shape, detector=detector, dtype=dtype)
        built.append((model, wide, shape, time.perf_counter() - start, detector))
        log.info("%s built in %.1f s, %.2f GB resident", shape.name, built[-1][3], resident_memory() / 1e9)
    return [check(*parts, cached=cached, steps=steps, max_new_tokens=max_new_tokens) for parts in built]


def check(
    model: PreTrainedModel,
    wide: PreTrainedModel,
    shape: Shape,
    build_seconds: float,
    detector: Detector | None = None,
    *,
    cached: int,
    steps: int,
    max_new_tokens: int,
) -> Check:
    """Check `wide`, which `widen` made of `model` with that detector. Its weights are overwritten meanwhile."""
    weights = _language_weights(wide)
    own = sum(own_bytes(weight) for weight in weights)
    same = _same_tokens(model, wide, SHORT if detector is None else LONG, max_new_tokens)
    # In the same memory, one after the other and back again: what drifts meanwhile, drifts for both.
    before = step_seconds(wide, cached, steps)
    noise = Noise(wide.dtype, wide.device, seed=1)
    for weight in weights:
        noise.fill(weight)
    random = step_seconds(wide, cached, steps)
    fill(model, wide, detector=detector)
    after = step_seconds(wide, cached, steps)
    return Check(
        shape=shape,
        num_parameters=sum(weight.numel() for weight in weights),
        weight_bytes=sum(weight.nbytes for weight in weights),
        own_bytes=own,
        build_seconds=build_seconds,
        step_seconds=statistics.median(before + after),
        random_step_seconds=statistics.median(random),
        num_same_tokens=same,
        num_tokens=max_new_tokens,
    )


@torch.no_grad()
def step_seconds(model: PreTrainedModel, cached: int, steps: int) -> list[float]:
    """Seconds of `steps` forwards of stock transformers over one token each, behind `cached` tokens and a warm-up."""
    text, head = model.model.language_model, model.lm_head
    cache = DynamicCache(config=text.config)
    tokens = torch.arange(cached, device=model.device)[None] % SOME_TOKENS
    behind = with_cache(text.forward, cache) | {"use_cache": True}
    text(input_ids=tokens, **behind)
    seconds = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        head(text(input_ids=tokens[:, :1], **behind).last_hidden_state)
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


def _language_weights(model: PreTrainedModel) -> list[Tensor]:
    language = nn.ModuleList([model.model.language_model, model.lm_head])
    return list(language.parameters())  # a tied table comes once


def _same_tokens(model: PreTrainedModel, wide: PreTrainedModel, num_frames: int, max_new_tokens: int) -> int:
    """How many tokens of stock generate's answer about a held-out film are the same before the first that differs.

    The widened model sees the film with blank frames, `num_frames` in all.
    """
    frames, answers = render(make_scene(pocket.HELD_OUT[0]), np.arange(SHORT) / SHORT, CODED_SIZE), []
    with tempfile.TemporaryDirectory() as folder:
        for each, length in ((model, SHORT), (wide, num_frames)):
            film, vlm = Path(folder) / f"{length}.mp4", load(each)
            write_mp4(long_film(frames, length, eyes_of(vlm.target).side), film)
            answer = vlm.autoregressive(
                film, QUESTION, num_frames=length, do_sample=False, max_new_tokens=max_new_tokens
            )
            answers.append(answer.token_ids)
    return next((i for i, (a, b) in enumerate(zip(*answers, strict=False)) if a != b), min(map(len, answers)))
