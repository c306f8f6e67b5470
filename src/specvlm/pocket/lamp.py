"""The little world as a camera sees it: the same shapes as solid bodies on a table, under a lamp from the upper left.

`render` shows what `world.render` shows, in the same places, in light and shade. All of it is computed: heights from
each pixel's distance to the edge of its shape, light from the slope of those heights, shadows from shapes moved away
from the lamp, and the table from noise that is the same in every film.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from jaxtyping import Float32, UInt8

from specvlm.pocket.world import BACKGROUNDS, NATIVE_SIZE, WHITE, Look, Scene, distance, look

Plane = Float32[np.ndarray, "S S"]

LAMP = np.array([-0.42, -0.55, 0.72], np.float32)
"""Where light comes from: right, down, towards the camera. Of length 1."""

HIGHLIGHT = (LAMP + (0, 0, 1)) / np.linalg.norm(LAMP + (0, 0, 1))
"""The slope that mirrors the lamp into the camera."""

BEVEL = 4.0
"""How far an edge is rounded, in pixels of a frame of `NATIVE_SIZE`, as all lengths here."""

SHADOW = (1.2, 1.6)
"""How far a shadow falls."""

SOFTNESS = 1.8
"""How far it fades."""

GRAIN = 1.0
"""Of the film, in levels of 255."""

SCALES = (3, 7, 17, 41)
"""How many patches of the table's texture go across a frame, coarse to fine."""


def render(scene: Scene, moments: Iterable[float], size: int = NATIVE_SIZE) -> UInt8[np.ndarray, "T S S 3"]:
    """One frame for each moment in [0, 1]."""
    moments = list(moments)
    frames = np.empty((len(moments), size, size, 3), np.uint8)
    table = _table(scene.background, size)
    for number, (frame, moment) in enumerate(zip(frames, moments, strict=True)):
        picture = table.copy()
        bodies = [(thing.shape, look(scene, index, moment)) for index, thing in enumerate(scene.things)]
        for shape, seen in bodies:
            if seen.visible:
                picture *= 1 - _shade(shape, seen, size)[:, :, None]
        for shape, seen in bodies:
            if seen.visible:
                cover, colour = _body(shape, seen, size)
                picture += (colour - picture) * cover[:, :, None]
        picture += np.random.default_rng(number).normal(0, GRAIN, (size, size, 1))
        frame[:] = np.clip(picture + 0.5, 0, 255)
    return frames


def _away(shape: str, seen: Look, size: int, moved: tuple[float, float] = (0.0, 0.0)) -> Plane:
    """How far each pixel is from the edge of a shape that has `moved`; negative within it."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) * (NATIVE_SIZE / size)
    x, y = (middle + by for middle, by in zip(seen.middle, moved, strict=True))
    return distance(shape, axis[None, :] - x, axis[:, None] - y, seen.diameter / 2).astype(np.float32)


def _shade(shape: str, seen: Look, size: int) -> Plane:
    """How much light a body keeps from the table: all around its foot, and behind it."""
    foot = 0.2 * np.exp(-np.maximum(_away(shape, seen, size), 0) / 1.5)
    behind = 0.4 * _smooth(0.5 - _away(shape, seen, size, SHADOW) / (2 * SOFTNESS))
    return 1 - (1 - foot) * (1 - behind)


def _body(shape: str, seen: Look, size: int) -> tuple[Plane, Float32[np.ndarray, "S S 3"]]:
    """How much of each pixel a body covers, and its colour in light and shade."""
    away = _away(shape, seen, size)
    rise = np.clip(-away / BEVEL, 0, 1)
    height = BEVEL * 0.6 * np.sqrt(1 - (1 - rise) ** 2)
    down, across = np.gradient(height, NATIVE_SIZE / size)
    normal = np.stack([-across, -down, np.ones_like(height)], -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    light = 0.6 + 0.4 * np.maximum(normal @ LAMP, 0) / LAMP[2]
    shine = 0.4 * np.maximum(normal @ HIGHLIGHT, 0) ** 60
    colour = np.array(seen.rgb, np.float32) * light[:, :, None]
    colour += (np.array(WHITE, np.float32) - colour) * (shine * (rise < 1))[:, :, None]
    return np.clip(0.5 - away * size / NATIVE_SIZE, 0, 1), colour.astype(np.float32)


@lru_cache(maxsize=4)
def _table(background: str, size: int) -> Float32[np.ndarray, "S S 3"]:
    """Wood where the background is brown, stone elsewhere, brighter towards the lamp."""
    rng, texture = np.random.default_rng(7), np.zeros((size, size), np.float32)
    for scale in SCALES:
        along = max(2, scale // 6) if background == "brown" else scale
        texture += _stretched(rng.normal(0, 1, (scale + 1, along + 1)).astype(np.float32), size) / len(SCALES)
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.4
    lit = 1.03 - 0.12 * (axis[None, :] ** 2 + axis[:, None] ** 2)
    base = np.array(BACKGROUNDS[background], np.float32)
    return base * (lit * (1 + 0.09 * texture))[:, :, None]


def _stretched(noise: Float32[np.ndarray, "h w"], size: int) -> Plane:
    """Smoothly, to a square."""
    rows, columns = (np.linspace(0, length - 1.001, size, dtype=np.float32) for length in noise.shape)
    top, left = rows.astype(int), columns.astype(int)
    down, across = _smooth(rows - top)[:, None], _smooth(columns - left)[None, :]
    upper = noise[top][:, left] * (1 - across) + noise[top][:, left + 1] * across
    lower = noise[top + 1][:, left] * (1 - across) + noise[top + 1][:, left + 1] * across
    return (upper * (1 - down) + lower * down).astype(np.float32)


def _smooth(share: np.ndarray) -> np.ndarray:
    share = np.clip(share, 0, 1)
    return share * share * (3 - 2 * share)
