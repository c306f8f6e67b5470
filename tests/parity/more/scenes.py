"""What the families of a file each are asked about. Their processors take several videos of one length alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import tiny
from parity.scenes import Scene, one_video, text


def two_videos(seed: int) -> Scene:
    return Scene(tiny.film(4, seed, fps=2.0), {"more_videos": (tiny.film(4, seed + 50, fps=1.3, height=32),)})


def video_and_image(seed: int) -> Scene:
    return Scene(tiny.film(5, seed, fps=3.0), {"images": (tiny.image(seed),)})


def crowd(seed: int) -> Scene:
    """Two videos, two images and a conversation, with much to read behind them."""
    videos = two_videos(seed)
    return replace(
        videos,
        media=videos.media
        | {
            "images": (tiny.image(seed), tiny.image(seed + 1, height=16, width=40)),
            "history": (("what is it? " * 12, "a red ball"),),
            "system": "be brief",
        },
    )


SCENES: dict[str, Callable[[int], Scene]] = {
    "text": text,
    "one video": one_video,
    "one frame": lambda seed: Scene(tiny.film(1, seed), {}),
    "two videos": two_videos,
    "video and image": video_and_image,
    "half still": lambda seed: Scene(tiny.half_still(6, seed), {"images": (tiny.image(seed),)}),
    "crowd": crowd,
}


def scenes(family: str) -> dict[str, Callable[[int], Scene]]:
    """Those that the family can be asked about. SmolVLM's processor loses images beside videos, GLM's model can't tell
    them apart."""
    left_out = {"video and image", "crowd"} if family in ("smolvlm", "glm4v", "glm46v") else set()
    if family != "video_llama_3":  # it alone leaves out what stands still
        left_out.add("half still")
    return {name: scene for name, scene in SCENES.items() if name not in left_out}
