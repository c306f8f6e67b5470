"""Videos that come as separate frames: arrays, tensors, lists of pictures, folders of pictures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from jaxtyping import Int64, Shaped, UInt8
from torch import Tensor

from specvlm.errors import VideoError, brief
from specvlm.video.pictures import picture, rgb, to_numpy
from specvlm.video.pixels import Wall
from specvlm.video.room import require_all

PICTURES = {".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}


def pick(
    frames: Shaped[np.ndarray, "T ..."] | Shaped[Tensor, "T ..."] | Sequence[Any],
    chosen: Int64[np.ndarray, " chosen"],
    name: str,
) -> UInt8[np.ndarray, "chosen H W 3"]:
    """A copy of the frames `chosen` from an array, a tensor, or a sequence of pictures, as RGB.

    A picture is whatever `load_image` takes. Arrays have their channels last, or first where the last axis isn't 3
    long; they are uint8, or floats between 0 and 1. Raises `VideoError` for anything else, for pictures that differ in
    size, and for more of them than are kept at once.
    """
    if isinstance(frames, np.ndarray):
        return rgb(np.asarray(frames[chosen]), name, "T")
    if isinstance(frames, Tensor):
        return rgb(to_numpy(frames[torch.from_numpy(chosen).to(frames.device)]), name, "T")
    gallery = np.empty((0, 0, 0, 3), np.uint8)
    for row, index in enumerate(chosen.tolist()):
        pixels = picture(frames[index], f"frame {index} of {name}")
        if row == 0:
            height, width, _ = pixels.shape
            require_all(len(chosen), width, height, name)
            gallery = np.empty((len(chosen), *pixels.shape), np.uint8)
        if pixels.shape != gallery.shape[1:]:
            raise VideoError(
                f"the frames of {name} differ in size: frame {chosen[0]} is {_size(gallery[0])}, "
                f"frame {index} is {_size(pixels)}; make them all the same"
            )
        gallery[row] = pixels
    return gallery


def show(files: Sequence[Path], wall: Wall, chosen: Int64[np.ndarray, " chosen"], name: str) -> bool:
    """Hang the pictures `chosen` of a folder, each as soon as it is read: none waits for the others. False if they
    differ in size, or nobody wants them."""
    reformatter = VideoReformatter()
    for row, index in enumerate(chosen.tolist()):
        pixels = picture(files[index], f"frame {index} of {name}")
        if not wall.hang(row, VideoFrame.from_ndarray(pixels, "rgb24"), reformatter):
            return False
    return True


def picture_files(folder: Path) -> list[Path]:
    """The pictures in a folder in the order that people count in: frame2 before frame10."""
    paths = [path for path in folder.iterdir() if path.suffix.lower() in PICTURES and path.name[0] != "."]
    if not paths:
        raise VideoError(
            f"{brief(folder)} is a folder without pictures: expected frames such as frame1.png, frame2.png"
        )
    return sorted(paths, key=lambda path: (_natural(path.name), path.name))


def _natural(name: str) -> list[tuple[str, int]]:
    return [(text.lower(), int(digits or 0)) for text, digits in re.findall(r"(\D*)(\d*)", name)]


def _size(picture: UInt8[np.ndarray, "H W 3"]) -> str:
    height, width, _ = picture.shape
    return f"{width} x {height}"
