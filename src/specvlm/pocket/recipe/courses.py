"""What a family's pair goes through, stage by stage: sizes, learning rates, seeds."""

from __future__ import annotations

from dataclasses import dataclass

from specvlm.pocket.recipe.inheritance import Inheritance
from specvlm.pocket.recipe.models import architecture


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stretch of training on films. The learning rate warms up, then falls in a straight line."""

    name: str
    steps: int
    rows: int
    frames: tuple[int, ...]
    learning_rate: tuple[float, float]
    layers: int = 2
    """Layers of the language model; a shallower one from the stage before is deepened first."""
    max_things: int = 3
    warmup: int = 100
    sees: bool = False
    """Whether the vision tower learns too: it is half of a small model's work, and knows most of its trade by now."""
    taught: bool = False
    """Whether the loss is mostly the distance from the finished target's predictions."""
    seed: int

    def rate(self, step: int) -> float:
        first, last = self.learning_rate
        return (first + (last - first) * step / self.steps) * min(1.0, (step + 1) / self.warmup)


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What a family's pair goes through."""

    see: int
    """Steps of the first stage."""
    see_rows: int = 128
    target: tuple[Stage, ...]
    echo: tuple[Stage, ...]
    inheritance: Inheritance | None = None


COURSES = {
    "llava_onevision": Course(
        see=500,
        target=(
            Stage(
                name="draft-1",
                steps=250,
                rows=32,
                frames=(8,),
                learning_rate=(6e-4, 6e-4),
                max_things=2,
                sees=True,
                seed=11,
            ),
            Stage(name="draft-2", steps=500, rows=32, frames=(8, 16, 8), learning_rate=(6e-4, 5.4e-4), seed=12),
            Stage(
                name="target-1",
                layers=6,
                steps=900,
                rows=32,
                frames=(8, 16, 8),
                learning_rate=(5e-4, 5e-4),
                warmup=50,
                seed=21,
            ),
            Stage(
                name="target-2",
                layers=14,
                steps=350,
                rows=16,
                frames=(16, 8, 32, 8),
                learning_rate=(4e-4, 1e-5),
                seed=22,
            ),
        ),
        echo=(
            Stage(name="echo-1", steps=850, rows=32, frames=(8, 16, 8, 32), learning_rate=(6e-4, 3.7e-4), seed=31),
            Stage(
                name="echo-2",
                steps=160,
                rows=24,
                frames=(16, 8, 32, 8),
                learning_rate=(3e-4, 1e-5),
                taught=True,
                seed=32,
            ),
        ),
    ),
    "qwen2_5_vl": Course(
        see=450,
        see_rows=64,
        target=(
            Stage(
                name="target-1",
                steps=300,
                rows=16,
                frames=(16, 8, 32, 16),
                learning_rate=(5e-4, 1e-5),
                warmup=40,
                seed=41,
            ),
            Stage(
                name="target-2",
                steps=200,
                rows=16,
                frames=(16, 32, 16, 8),
                learning_rate=(3e-4, 1e-5),
                warmup=20,
                seed=42,
            ),
        ),
        echo=(
            Stage(
                name="echo-1",
                steps=350,
                rows=24,
                frames=(16, 8, 32, 16),
                learning_rate=(6e-4, 3e-4),
                warmup=40,
                seed=51,
            ),
            Stage(
                name="echo-2",
                steps=150,
                rows=24,
                frames=(16, 8, 32, 16),
                learning_rate=(3e-4, 1e-5),
                taught=True,
                seed=52,
            ),
        ),
        inheritance=Inheritance(
            lender=architecture("llava_onevision"),
            names=(("<|image_pad|>", "<image>"), ("<|video_pad|>", "<video>")),
        ),
    ),
}
