"""Training material: films with everything that is said about them, packed so that a video is looked at only once.

A packed row is `user <video>` followed by several questions with their answers. Each pair sees the video and itself,
never its neighbours, and its positions are those it would have behind the video alone: for the model, every pair is a
chat of its own.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad as pad_right
from transformers import PreTrainedTokenizerBase

from specvlm.pocket import HELD_OUT
from specvlm.pocket.language import KINDS, Question, ask
from specvlm.pocket.recipe.architecture import CELLS, Architecture
from specvlm.pocket.world import BACKGROUNDS, CELL, COLOURS, SHAPES, SIZES, WHITE, look, make_scene, render

IGNORED = -100
LOOKS = (*COLOURS.values(), WHITE)
USUAL_SECONDS = 4.0
UNKNOWN_FPS = 24.0
"""What transformers takes for the rate of a video without a clock."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Packed rows: pixels `[B, T, 3, H, W]` in [-1, 1]; ids, segments and labels `[B, L]`; positions `[R, B, L]`."""

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


def rate(num_frames: int, rng: random.Random) -> float:
    """Frames a second of a film of which `num_frames` were taken: mostly of the usual length, sometimes unknown."""
    chance = rng.random()
    if chance < 0.1:
        return UNKNOWN_FPS
    return num_frames / (USUAL_SECONDS if chance < 0.7 else rng.uniform(2.5, 8.0))


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
        architecture: Architecture,
        tokenizer: PreTrainedTokenizerBase,
        *,
        rows: int,
        frames: Sequence[int],
        max_things: int = 3,
        seed: int = 0,
    ) -> None:
        self.architecture, self.tokenizer = architecture, tokenizer
        self.rows, self.frames = rows, tuple(frames)
        self.max_things, self.seed = max_things, seed
        self.grain: Grain | None = None

    def __getitem__(self, step: int) -> Batch:
        rng, clock = random.Random(f"{self.seed}:{step}"), random.Random(f"clock:{self.seed}:{step}")
        if self.grain is None:
            self.grain = Grain(self.seed)
        self.grain.numpy = np.random.default_rng((self.seed, step))
        num_frames = self.frames[step % len(self.frames)]
        # As many tokens whatever the number of frames, so that a step costs the same.
        least, most = (self.architecture.num_video_tokens(frames) + 180 for frames in (self.frames[0], num_frames))
        rows = max(1, self.rows * least // most)
        films, packed = [], []
        for _ in range(rows):
            scene = make_scene(rng.randrange(HELD_OUT.start), self.max_things)
            films.append(self.grain(render(scene, moments(num_frames, rng))))
            kinds = ["detail", *rng.choices(KINDS[1:], k=2)]
            questions = [ask(scene, kind, rng) for kind in kinds]
            packed.append(pack(self.architecture, self.tokenizer, num_frames, rate(num_frames, clock), questions))
        pad: Any = self.tokenizer.pad_token_id
        return collate(np.stack(films), packed, pad)


@dataclass(frozen=True, slots=True)
class Row:
    """A film's tokens, unpadded: ids, segments and labels `[L]`, positions `[R, L]`."""

    ids: Tensor
    positions: Tensor
    segments: Tensor
    labels: Tensor


def pack(
    architecture: Architecture,
    tokenizer: PreTrainedTokenizerBase,
    num_frames: int,
    fps: float,
    questions: Sequence[Question],
) -> Row:
    """One row. The text goes on right behind the video's last token, as in `generate`, wherever its clock is."""
    opening = architecture.opening(tokenizer, num_frames, fps)
    ids, segments, labels = list(opening.ids), [0] * len(opening.ids), [IGNORED] * len(opening.ids)
    start, positions = int(opening.positions[0, -1]) + 1, []
    for number, question in enumerate(questions, 1):
        asked = tokenizer(f"\n{question.text}<|im_end|><|im_start|>assistant\n").input_ids
        answer = tokenizer(f"{question.answer}<|im_end|>").input_ids
        ids += asked + answer
        positions += range(start, start + len(asked) + len(answer))
        segments += [number] * (len(asked) + len(answer))
        labels += [IGNORED] * len(asked) + answer
    text = torch.tensor(positions).expand(len(opening.positions), -1)
    return Row(torch.tensor(ids), torch.cat([opening.positions, text], 1), torch.tensor(segments), torch.tensor(labels))


def collate(films: np.ndarray, rows: Sequence[Row], pad: int) -> Batch:
    """Rows padded on the right to a common length; padding is in no segment and has no label."""
    longest = max(len(row.ids) for row in rows)
    longest += -longest % 8

    def padded(parts: Sequence[Tensor], filler: int) -> Tensor:
        return torch.stack([pad_right(part, (0, longest - part.shape[-1]), value=filler) for part in parts], dim=-2)

    return Batch(
        pixels=normalise(films),
        ids=padded([row.ids for row in rows], pad),
        positions=padded([row.positions for row in rows], 0),
        segments=padded([row.segments for row in rows], -1),
        labels=padded([row.labels for row in rows], IGNORED),
    )


@dataclass(frozen=True, slots=True)
class Stills:
    """Frames of one video token each, and what they show at each cell: `pixels [B, T, 3, H, W]`,
    `labels {name: [B, 9, T]}` (-100 none), where T is the number of frames that a token shows."""

    pixels: Tensor
    labels: dict[str, Tensor]


LABELS = {
    "background": len(BACKGROUNDS),
    "present": 2,
    "colour": len(LOOKS),
    "shape": len(SHAPES),
    "size": 2,
    "place": CELLS,
}


class StillLife:
    """Batch number n of labelled frames, for teaching the vision tower to see before it is asked to tell."""

    def __init__(self, architecture: Architecture, *, rows: int, seed: int = 0) -> None:
        self.architecture, self.rows, self.seed = architecture, rows, seed
        self.grain: Grain | None = None

    def __getitem__(self, step: int) -> Stills:
        rng, clock = random.Random(f"still:{self.seed}:{step}"), random.Random(f"clock:{self.seed}:{step}")
        if self.grain is None:
            self.grain = Grain(self.seed)
        self.grain.numpy = np.random.default_rng((self.seed, step))
        num_frames = self.architecture.frames_per_token
        labels = {key: np.full((self.rows, CELLS, num_frames), IGNORED) for key in LABELS}
        labels["present"][:] = 0
        if self.architecture.sees_borders:
            labels["place"][:] = np.arange(CELLS)[:, None]
        films = []
        for row in range(self.rows):
            scene, first = make_scene(rng.randrange(HELD_OUT.start)), rng.random()
            apart = 1 / clock.choice((8, 8, 16, 16, 32, 64))
            moments = [min(first + number * apart, 1.0) for number in range(num_frames)]
            films.append(self.grain(render(scene, moments)))
            labels["background"][row] = list(BACKGROUNDS).index(scene.background)
            for number, moment in enumerate(moments):
                for index, thing in enumerate(scene.things):
                    seen = look(scene, index, moment)
                    cell = int(seen.middle[1] // CELL) * 3 + int(seen.middle[0] // CELL)
                    if not seen.visible:
                        continue
                    labels["present"][row, cell, number] = 1
                    labels["place"][row, cell, number] = cell
                    labels["colour"][row, cell, number] = LOOKS.index(seen.rgb)
                    labels["shape"][row, cell, number] = SHAPES.index(thing.shape)
                    if seen.diameter in SIZES.values():
                        labels["size"][row, cell, number] = list(SIZES.values()).index(seen.diameter)
        return Stills(normalise(np.stack(films)), {key: torch.from_numpy(value) for key, value in labels.items()})
