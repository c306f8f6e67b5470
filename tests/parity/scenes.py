"""What the Qwen-VL models are asked about. Clips differ in size, length and rate, so that no two can be mixed up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tiny
from specvlm.video import Video


@dataclass(frozen=True, eq=False)
class Scene:
    """A first video or none, and the options that bring more; `num_still_tokens` are those of its images."""

    video: Video | None
    media: dict[str, Any]
    num_still_tokens: int = 0


def text(seed: int) -> Scene:
    return Scene(None, {"history": ((f"who said {seed}?", "a red ball"),), "system": "be brief"} if seed % 2 else {})


def one_video(seed: int) -> Scene:
    """An odd number of frames too: the last one is then its own partner."""
    return Scene(tiny.film(5 + seed % 3, seed, fps=(2.0, 0.7, 24.0)[seed % 3]), {})


def two_videos(seed: int) -> Scene:
    return Scene(tiny.film(4, seed, fps=2.0), {"more_videos": (tiny.film(6, seed + 50, fps=1.3, height=32),)})


def video_and_image(seed: int) -> Scene:
    return Scene(tiny.film(6, seed, fps=3.0), {"images": (tiny.image(seed),)}, num_still_tokens=6)


def crowd(seed: int) -> Scene:
    """Two videos, two images and a conversation."""
    return Scene(
        tiny.film(4, seed),
        {
            "more_videos": (tiny.film(3, seed + 50, height=32),),
            "images": (tiny.image(seed), tiny.image(seed + 1, height=16, width=32)),
            "history": (("what is it?", "a red ball"),),
            "system": "be brief",
        },
        num_still_tokens=14,
    )


SCENES = {
    "text": text,
    "one video": one_video,
    "two videos": two_videos,
    "video and image": video_and_image,
    "crowd": crowd,
}
