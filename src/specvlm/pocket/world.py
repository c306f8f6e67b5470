"""The little world: coloured shapes on a three by three grid, each phase of a film one thing happens.

A scene is a pure function of its seed, and a frame is a pure function of scene, moment and size. Everything in it
is easy to see on purpose: the world exists so that a model of ten million parameters can be right about a video,
and so that we can tell when it is not.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

COLOURS = {
    "red": (230, 25, 30),
    "green": (20, 160, 40),
    "blue": (30, 60, 240),
    "yellow": (250, 225, 20),
    "orange": (250, 130, 0),
    "purple": (130, 20, 170),
    "pink": (255, 130, 190),
    "cyan": (30, 220, 225),
}
SHAPES = ("circle", "square", "triangle", "cross", "ring")
SIZES = {"small": 15.0, "large": 28.0}
"""Diameters in pixels of a frame of 96 x 96, where a cell of the grid is 32 pixels wide."""
BACKGROUNDS = {"black": (12, 12, 12), "grey": (110, 110, 110), "brown": (95, 60, 35)}
PLACES = (
    "top left", "top middle", "top right",
    "middle left", "centre", "middle right",
    "bottom left", "bottom middle", "bottom right",
)  # fmt: skip
STEPS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
ACTIONS = (*(f"moves {way}" for way in STEPS), "grows", "shrinks", "blinks", "hides")
WHITE = (255, 255, 255)

NATIVE_SIZE = 96
CELL = NATIVE_SIZE / 3


@dataclass(frozen=True, slots=True)
class Thing:
    """One shape as the film begins. `place` indexes `PLACES`; `offset` from the cell's middle, in pixels."""

    colour: str
    shape: str
    size: str
    place: int
    offset: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Event:
    """What one phase of the film shows: `subject` does `action`; a move ends at `end`, perhaps beside `met`."""

    subject: int
    action: str
    end: int
    met: int | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """A film: things in reading order of their first places, and one event for each of its equally long phases."""

    background: str
    things: tuple[Thing, ...]
    events: tuple[Event, ...]

    @property
    def final_places(self) -> tuple[int, ...]:
        places = [thing.place for thing in self.things]
        for event in self.events:
            places[event.subject] = event.end
        return tuple(places)

    @property
    def final_sizes(self) -> tuple[str, ...]:
        sizes = [thing.size for thing in self.things]
        for event in self.events:
            if event.action in ("grows", "shrinks"):
                sizes[event.subject] = "large" if event.action == "grows" else "small"
        return tuple(sizes)


def make_scene(seed: int, max_things: int = 3) -> Scene:
    """The scene of this seed, with one to `max_things` things (mostly more than one) and two or three events."""
    rng = random.Random(seed)
    num_things = min(max_things, rng.choice((1, 2, 2, 2, 3, 3, 3)))
    colours = rng.sample(list(COLOURS), num_things)
    places = sorted(rng.sample(range(len(PLACES)), num_things))
    things = tuple(
        Thing(
            colour,
            rng.choice(SHAPES),
            rng.choice(list(SIZES)),
            place,
            (rng.uniform(-2, 2), rng.uniform(-2, 2)),
        )
        for colour, place in zip(colours, places, strict=True)
    )
    background = rng.choice(list(BACKGROUNDS))

    sizes = [thing.size for thing in things]
    events: list[Event] = []
    for _ in range(rng.choice((2, 3))):
        possible = {action: _able(action, places, sizes) for action in ACTIONS}
        action = rng.choice([action for action in ACTIONS if possible[action]])
        subject = rng.choice(possible[action])
        end, met = _slide(action, subject, places)
        events.append(Event(subject, action, end, met))
        places[subject] = end
        if action in ("grows", "shrinks"):
            sizes[subject] = "large" if action == "grows" else "small"
    return Scene(background, things, tuple(events))


def _able(action: str, places: list[int], sizes: list[str]) -> list[int]:
    """The things that can do this: a move needs a free cell ahead, growing needs to be small."""
    everyone = range(len(places))
    if action.startswith("moves"):
        return [i for i in everyone if _slide(action, i, places)[0] != places[i]]
    if action in ("grows", "shrinks"):
        return [i for i in everyone if sizes[i] == ("small" if action == "grows" else "large")]
    return list(everyone)


def _slide(action: str, subject: int, places: list[int]) -> tuple[int, int | None]:
    """Where a move ends: at the edge, or beside the first thing in the way, which is then met."""
    place = places[subject]
    if not action.startswith("moves"):
        return place, None
    down, right = STEPS[action.removeprefix("moves ")]
    while True:
        row, column = place // 3 + down, place % 3 + right
        if not (0 <= row < 3 and 0 <= column < 3):
            return place, None
        ahead = row * 3 + column
        if ahead in places:
            return place, places.index(ahead)
        place = ahead


@dataclass(frozen=True, slots=True)
class Look:
    """How a thing looks at one moment: its middle (x, y) and diameter in pixels, RGB colour, whether it is there."""

    middle: tuple[float, float]
    diameter: float
    rgb: tuple[int, int, int]
    visible: bool


def look(scene: Scene, index: int, moment: float) -> Look:
    """Thing number `index` at `moment` in [0, 1], in pixels of a frame of `NATIVE_SIZE`."""
    thing = scene.things[index]
    place, diameter = float(thing.place // 3), SIZES[thing.size]
    row, column = place, float(thing.place % 3)
    rgb, visible = COLOURS[thing.colour], True
    for number, event in enumerate(scene.events):
        progress = moment * len(scene.events) - number
        if event.subject != index or progress < 0:
            continue
        ease = min(max((progress - 0.15) / 0.7, 0.0), 1.0)
        if event.action.startswith("moves"):
            row += (event.end // 3 - row) * ease
            column += (event.end % 3 - column) * ease
        elif event.action in ("grows", "shrinks"):
            diameter += (SIZES["large" if event.action == "grows" else "small"] - diameter) * ease
        elif event.action == "blinks":
            if 0.1 <= progress < 0.48 or 0.55 <= progress < 0.93:
                rgb = WHITE
        elif 0.25 <= progress < 0.8:
            visible = False
    x, y = ((column + 0.5) * CELL + thing.offset[0], (row + 0.5) * CELL + thing.offset[1])
    return Look((x, y), diameter, rgb, visible)


def render(scene: Scene, moments: Iterable[float], size: int = NATIVE_SIZE) -> np.ndarray:
    """Frames `[T, size, size, 3]` uint8, one for each moment in [0, 1]. Any size shows the same world."""
    moments = list(moments)
    frames = np.empty((len(moments), size, size, 3), np.uint8)
    frames[:] = BACKGROUNDS[scene.background]
    scale = size / NATIVE_SIZE
    for frame, moment in zip(frames, moments, strict=True):
        for index, thing in enumerate(scene.things):
            seen = look(scene, index, moment)
            if seen.visible:
                _paint(frame, thing.shape, seen, scale)
    return frames


def _paint(frame: np.ndarray, shape: str, seen: Look, scale: float) -> None:
    x, y = (axis * scale for axis in seen.middle)
    left, top = int(x), int(y)
    # Quarter pixels are fine enough to look smooth and coarse enough for the masks to be cached.
    mask = _mask(shape, round(seen.diameter * scale * 2) / 2, round((x - left) * 4) / 4, round((y - top) * 4) / 4)
    reach = mask.shape[0] // 2
    rows, columns = slice(max(top - reach, 0), top + reach + 1), slice(max(left - reach, 0), left + reach + 1)
    window = frame[rows, columns]
    cut = mask[max(reach - top, 0) :, max(reach - left, 0) :][: window.shape[0], : window.shape[1]]
    window[:] = window + (np.array(seen.rgb, np.float32) - window) * cut + 0.5


@lru_cache(maxsize=16384)
def _mask(shape: str, diameter: float, x: float, y: float) -> np.ndarray:
    """How much of each pixel `[h, h, 1]` a shape covers whose middle is (x, y) from the middle pixel's corner."""
    radius = diameter / 2
    reach = int(radius) + 2
    axis = np.arange(-reach, reach + 1, dtype=np.float32) + 0.5
    across, down = axis[None, :] - x, axis[:, None] - y
    outside = distance(shape, across, down, radius)
    return np.clip(0.5 - outside, 0, 1)[:, :, None].astype(np.float32)


def distance(shape: str, across: np.ndarray, down: np.ndarray, radius: float) -> np.ndarray:
    """Signed distance in pixels from the edge of a shape (negative inside)."""
    if shape == "circle":
        return np.hypot(across, down) - radius
    if shape == "ring":
        return np.abs(np.hypot(across, down) - radius * 0.72) - radius * 0.28
    if shape == "square":
        return np.maximum(abs(across), abs(down)) - radius * 0.92
    if shape == "triangle":
        slope = (abs(across) * 2 - (down + radius)) / 5**0.5
        return np.maximum(slope, down - radius)
    arm = radius * 0.32
    upright = np.maximum(abs(across) - arm, abs(down) - radius)
    return np.minimum(upright, np.maximum(abs(across) - radius, abs(down) - arm))
