"""Training material: films with everything that is said about them, packed so that a video is looked at only once.

A packed row is `user <video>` followed by several questions with their answers. Each pair sees the video and itself,
never its neighbours, and its positions go on from the video's end: for the model, every pair is a chat of its own.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from specvlm.pocket import HELD_OUT
from specvlm.pocket.language import KINDS, Question, ask
from specvlm.pocket.world import BACKGROUNDS, CELL, COLOURS, SHAPES, SIZES, WHITE, look, make_scene, render

IGNORED = -100
VIDEO_TOKENS_PER_FRAME = 9
LOOKS = (*COLOURS.values(), WHITE)


@dataclass(frozen=True, slots=True)
class Batch:
    """Packed rows: pixels `[B, T, 3, H, W]` in [-1, 1]; ids, positions, segments and labels `[B, L]`."""

    pixels: Tensor
    ids: Tensor
    positions: Tensor
    segments: Tensor
    labels: Tensor

    def attention(self, dtype: torch.dtype) -> Tensor:
        """Additive mask `[B, 1, L, L]`: a token sees what is before it in segment 0 (the video) and in its own."""
        own = self.segments[:, :, None] == self.segments[:, None, :]
        allowed = (own | (self.segments == 0)[:, None, :]).tril()
        mask = torch.zeros(allowed.shape, dtype=dtype).masked_fill_(~allowed, torch.finfo(dtype).min)
        return mask[:, None]


def moments(num_frames: int, rng: random.Random) -> np.ndarray:
    """When frames are taken: evenly, from the first frame to the last or at about the middle of equal parts."""
    if rng.random() < 0.4:
        return np.linspace(0.0, 1.0 - rng.uniform(0, 0.03), num_frames)
    return (np.arange(num_frames) + rng.uniform(0.0, 0.7)) / num_frames


class Grain:
    """What a camera and a codec do to a frame: noise, a little blur, a little less or more light."""

    def __init__(self, seed: int) -> None:
        self.numpy = np.random.default_rng(seed)
        self.noise = self.numpy.normal(0, 1, 1 << 22).astype(np.float32)

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """`[T, H, W, 3]` uint8 to uint8."""
        draw = self.numpy
        if draw.random() < 0.25:
            return frames
        seen = frames.astype(np.float32)
        if draw.random() < 0.3:
            seen[:, :, 1:] = seen[:, :, 1:] * 0.7 + seen[:, :, :-1] * 0.3
        if draw.random() < 0.3:
            seen[:, 1:] = seen[:, 1:] * 0.7 + seen[:, :-1] * 0.3
        seen *= draw.uniform(0.93, 1.07)
        seen += draw.uniform(-6, 6)
        start = draw.integers(0, self.noise.size // 4)
        repeated = np.resize(self.noise[start:], frames.shape)
        seen += repeated * draw.uniform(0, 5)
        return np.clip(seen, 0, 255).astype(np.uint8)


def normalise(frames: np.ndarray) -> Tensor:
    """uint8 frames `[..., H, W, 3]` to what the video processor makes of them, `[..., 3, H, W]` in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(frames, -1, -3))).to(torch.float32).div_(127.5).sub_(1)


class Conversations:
    """Batch number n of a stage, the same whenever and wherever it is asked for."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        rows: int,
        frames: Sequence[int],
        max_things: int = 3,
        seed: int = 0,
    ) -> None:
        self.tokenizer, self.rows, self.frames = tokenizer, rows, tuple(frames)
        self.max_things, self.seed = max_things, seed
        self.grain: Grain | None = None

    def __getitem__(self, step: int) -> Batch:
        rng = random.Random(f"{self.seed}:{step}")
        if self.grain is None:
            self.grain = Grain(self.seed)
        self.grain.numpy = np.random.default_rng((self.seed, step))
        num_frames = self.frames[step % len(self.frames)]
        # As many tokens whatever the number of frames, so that a step costs the same.
        rows = max(1, self.rows * (9 * self.frames[0] + 180) // (9 * num_frames + 180))
        films, packed = [], []
        for _ in range(rows):
            scene = make_scene(rng.randrange(HELD_OUT.start), self.max_things)
            films.append(self.grain(render(scene, moments(num_frames, rng))))
            kinds = ["detail", *rng.choices(KINDS[1:], k=2)]
            packed.append(pack(self.tokenizer, num_frames, [ask(scene, kind, rng) for kind in kinds]))
        pad: Any = self.tokenizer.pad_token_id
        return collate(np.stack(films), packed, pad)


def pack(tokenizer: PreTrainedTokenizerBase, num_frames: int, questions: Sequence[Question]) -> tuple[list[int], ...]:
    """One row as (ids, positions, segments, labels), unpadded."""
    video = tokenizer.convert_tokens_to_ids("<video>")
    ids = [*tokenizer("<|im_start|>user ").input_ids, *[video] * (num_frames * VIDEO_TOKENS_PER_FRAME + 1)]
    start = len(ids)
    positions, segments, labels = list(range(start)), [0] * start, [IGNORED] * start
    for number, question in enumerate(questions, 1):
        asked = tokenizer(f"\n{question.text}<|im_end|><|im_start|>assistant\n").input_ids
        answer = tokenizer(f"{question.answer}<|im_end|>").input_ids
        ids += asked + answer
        positions += range(start, start + len(asked) + len(answer))
        segments += [number] * (len(asked) + len(answer))
        labels += [IGNORED] * len(asked) + answer
    return ids, positions, segments, labels


def collate(films: np.ndarray, packed: list[tuple[list[int], ...]], pad: int) -> Batch:
    """Rows padded on the right to a common length; padding is in no segment and has no label."""
    longest = max(len(row[0]) for row in packed)
    longest += -longest % 8
    columns = []
    for part, filler in enumerate((pad, 0, -1, IGNORED)):
        columns.append(torch.tensor([row[part] + [filler] * (longest - len(row[part])) for row in packed]))
    return Batch(normalise(films), *columns)


@dataclass(frozen=True, slots=True)
class Stills:
    """Single frames and what each pooled token shows: `pixels [B, 1, 3, H, W]`, `labels {name: [B, 9]}` (-100 none)."""

    pixels: Tensor
    labels: dict[str, Tensor]


LABELS = {
    "background": len(BACKGROUNDS),
    "present": 2,
    "colour": len(LOOKS),
    "shape": len(SHAPES),
    "size": 2,
    "place": 9,
}


class StillLife:
    """Batch number n of labelled single frames, for teaching the vision tower to see before it is asked to tell."""

    def __init__(self, *, rows: int, seed: int = 0) -> None:
        self.rows, self.seed = rows, seed
        self.grain: Grain | None = None

    def __getitem__(self, step: int) -> Stills:
        rng = random.Random(f"still:{self.seed}:{step}")
        if self.grain is None:
            self.grain = Grain(self.seed)
        self.grain.numpy = np.random.default_rng((self.seed, step))
        labels = {key: np.full((self.rows, 9), IGNORED) for key in LABELS}
        labels["present"][:] = 0
        labels["place"][:] = np.arange(9)
        films = []
        for row in range(self.rows):
            scene, moment = make_scene(rng.randrange(HELD_OUT.start)), rng.random()
            films.append(self.grain(render(scene, [moment])))
            labels["background"][row] = list(BACKGROUNDS).index(scene.background)
            for index, thing in enumerate(scene.things):
                seen = look(scene, index, moment)
                cell = int(seen.middle[1] // CELL) * 3 + int(seen.middle[0] // CELL)
                if not seen.visible:
                    continue
                labels["present"][row, cell] = 1
                labels["colour"][row, cell] = LOOKS.index(seen.rgb)
                labels["shape"][row, cell] = SHAPES.index(thing.shape)
                if seen.diameter in SIZES.values():
                    labels["size"][row, cell] = list(SIZES.values()).index(seen.diameter)
        return Stills(normalise(np.stack(films)), {key: torch.from_numpy(value) for key, value in labels.items()})
