"""The embedded default: a tiny Video-LLM pair of the real architecture, and the little world that it can talk about.

`path` finds the checkpoints, `HELD_OUT` the seeds of films that no training ever saw, `demo_video` one such film.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from specvlm.errors import ModelError, brief

HELD_OUT = range(1_000_000_000, 1_000_100_000)
"""Seeds of scenes for measuring. Training draws from the seeds below the first of them."""

SIGNED = "a film of specvlm's pocket world"
"""The comment in the files of its films, by which they are known."""

FILMED = 1
"""A held-out film that both pairs tell right when it is lit, too."""

FAMILIES = ("llava_onevision", "qwen2_5_vl")
ROLES = ("target", "draft")


def path(family: str = "llava_onevision", role: str = "target") -> Path:
    """The directory of a checkpoint, as `from_pretrained` takes it.

    `ModelError` if there is no such family or role.
    """
    if family not in FAMILIES:
        raise ModelError(f"the pocket pair comes as {', '.join(FAMILIES)}, not as {brief(repr(family))}")
    if role not in ROLES:
        raise ModelError(f"a model of the pocket pair is a target or a draft, not {role!r}")
    return _weights() / family / role


def is_embedded(name: str) -> bool:
    """Whether a checkpoint of this name, a path or a Hub id, is one of those that `path` finds."""
    return Path(name).resolve().is_relative_to(_weights().resolve())


def _weights() -> Path:
    return Path(str(files("specvlm.pocket"))) / "weights"


def demo_video(destination: Path, number: int = 0, *, lit: bool = False) -> Path:
    """Write held-out film `number` (counted from 0) as an H.264 mp4 to `destination`, and return that path; drawn as
    the pairs know it, or `lit`: larger, and as a camera would see it, about which they are wrong more often."""
    from specvlm.pocket.film import write_mp4
    from specvlm.pocket.world import make_scene

    write_mp4(make_scene(HELD_OUT[number]), destination, size=432 if lit else 288, lit=lit)
    return destination
