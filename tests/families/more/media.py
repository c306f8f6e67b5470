"""What the families of a file each are asked about, and what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

import tiny
from specvlm.video import Video


@dataclass(frozen=True)
class Media:
    """What stands in front of the question."""

    films: tuple[Video, ...] = ()
    images: tuple[np.ndarray, ...] = ()

    @property
    def parts(self) -> list[dict[str, str]]:
        return [{"type": "video"}] * len(self.films) + [{"type": "image"}] * len(self.images)


FILM, ODD, TALL = tiny.film(4), tiny.film(5, 3, fps=0.7), tiny.film(4, 1, fps=1.3, height=32)
IMAGES = (tiny.image(), tiny.image(1, 16, 40))
MEDIA = {
    "text": Media(),
    "one video": Media((FILM,)),
    "an odd number of frames": Media((ODD,)),
    "one frame": Media((tiny.film(1),)),
    "two videos": Media((FILM, TALL)),
    "images": Media((), IMAGES),
    "videos and images": Media((TALL, FILM), IMAGES),
}

GLM = ("glm4v", "glm46v")
IMAGE_TOKENS = {
    "llava_next_video": (46, 52),
    "internvl": (12, 16),
    "smolvlm": (20, 12),
    "glm4v": (6, 10),
    "glm46v": (6, 10),
    "video_llama_3": (24, 40),
    "perception_lm": (12, 12),
}
"""Of the two images."""


def media_of(family: str) -> list[str]:
    """Those that the family can be asked about.

    SmolVLM's processor loses images beside videos, GLM's model can't tell them apart, and makes nothing of one frame.
    """
    left_out = {"smolvlm": ["videos and images"]} | {name: ["videos and images", "one frame"] for name in GLM}
    return [name for name in MEDIA if name not in left_out.get(family, ())]


def clips_of(family: str, media: Media) -> list[tuple[int, int]]:
    """How many frames each clip has, and how many tokens each of them. GLM's are two frames of the film."""
    films = [(len(film.frames), 4) for film in media.films]
    if family in (*GLM, "video_llama_3"):
        merged = 2 if family in GLM else 1
        films = [(-(-len(film.frames) // merged), 12 if film is TALL else 6) for film in media.films]
    return films + [(1, number) for number, _ in zip(IMAGE_TOKENS[family], media.images, strict=False)]


def text(message: str) -> dict[str, str]:
    return {"type": "text", "text": message}


def as_a_user_would(family: str, media: Media, conversation: list[dict[str, Any]]) -> dict[str, Tensor]:
    """What transformers' documentation says: chat template, then processor, which is told the frames' times."""
    processor = tiny.processor(family)
    prompt = processor.apply_chat_template(conversation, add_generation_prompt=True)
    more: dict[str, Any] = {}
    if media.films:
        more["videos"] = [torch.tensor(film.frames.copy()).permute(0, 3, 1, 2) for film in media.films]
        more["video_metadata"] = [
            {
                "total_num_frames": len(film.frames),
                "fps": film.source_fps,
                "frames_indices": list(range(len(film.frames))),
                "duration": film.duration,
            }
            for film in media.films
        ]
    if media.images:
        more["images"] = [torch.tensor(image).permute(2, 0, 1) for image in media.images]
    return dict(processor(text=[prompt], do_sample_frames=False, return_tensors="pt", **more))
