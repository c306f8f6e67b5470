"""Videos that come as separate frames: arrays, tensors, lists of pictures, folders of pictures."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, Shaped, UInt8
from torch import Tensor

from specvlm.errors import VideoError
from specvlm.video.container import blaming
from specvlm.video.decoding import decode
from specvlm.video.sampling import Sampling

PICTURES = {".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}


def pick(
    frames: Shaped[np.ndarray, "T ..."] | Shaped[Tensor, "T ..."] | Sequence[Any],
    chosen: Int64[np.ndarray, " chosen"],
    name: str,
) -> UInt8[np.ndarray, "chosen H W 3"]:
    """A copy of the frames `chosen` from an array, a tensor, or a sequence of pictures, as RGB.

    A picture is an array or tensor, a PIL image or the path of a file. Arrays have their channels last, or first
    where the last axis isn't 3 long; they are uint8, or floats between 0 and 1. Raises `VideoError` for anything
    else, and for pictures that differ in size.
    """
    if isinstance(frames, np.ndarray):
        return _rgb(np.asarray(frames[chosen]), name, "T")
    if isinstance(frames, Tensor):
        return _rgb(_numpy(frames[torch.from_numpy(chosen).to(frames.device)]), name, "T")
    pictures = [_picture(frames[index], f"frame {index} of {name}") for index in chosen.tolist()]
    for index, picture in zip(chosen.tolist(), pictures, strict=True):
        if picture.shape != pictures[0].shape:
            raise VideoError(
                f"the frames of {name} differ in size: frame {chosen[0]} is {_size(pictures[0])}, "
                f"frame {index} is {_size(picture)}; make them all the same"
            )
    return np.stack(pictures)


def picture_files(folder: Path) -> list[Path]:
    """The pictures in a folder in the order that people count in: frame2 before frame10."""
    paths = [path for path in folder.iterdir() if path.suffix.lower() in PICTURES and path.name[0] != "."]
    if not paths:
        raise VideoError(f"{folder} is a folder without pictures: expected frames such as frame1.png, frame2.png")
    return sorted(paths, key=lambda path: (_natural(path.name), path.name))


def _natural(name: str) -> list[tuple[str, int]]:
    return [(text.lower(), int(digits or 0)) for text, digits in re.findall(r"(\D*)(\d*)", name)]


def _picture(source: Any, name: str) -> UInt8[np.ndarray, "H W 3"]:
    if isinstance(source, str | os.PathLike):
        with blaming(str(source)), Path(source).open("rb") as file:
            return decode(file, str(source), Sampling(num_frames=1)).frames[0]
    if isinstance(source, Tensor):
        return _rgb(_numpy(source), name)
    if isinstance(source, np.ndarray):
        return _rgb(source, name)
    if hasattr(source, "convert"):  # a PIL image; no need to import Pillow for that
        return np.asarray(source.convert("RGB"))
    raise VideoError(f"{name} is of type {type(source).__name__}: expected an array, a tensor, a PIL image or a path")


def _numpy(tensor: Shaped[Tensor, "..."]) -> Shaped[np.ndarray, "..."]:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def _rgb(pixels: Shaped[np.ndarray, "..."], name: str, *leading: str) -> UInt8[np.ndarray, "... H W 3"]:
    """uint8 pixels, channels last. `leading` names the axes before those of a picture."""
    channels_first = pixels.ndim == 3 + len(leading) and pixels.shape[-1] != 3 and pixels.shape[-3] == 3
    if channels_first:
        pixels = np.moveaxis(pixels, -3, -1)
    if pixels.ndim != 3 + len(leading) or pixels.shape[-1] != 3:
        shapes = [", ".join([*leading, *axes]) for axes in (("H", "W", "3"), ("3", "H", "W"))]
        raise VideoError(f"{name} has shape {list(pixels.shape)}: expected [{shapes[0]}] or [{shapes[1]}]")
    if np.issubdtype(pixels.dtype, np.floating):
        if not ((pixels >= 0) & (pixels <= 1)).all():
            raise VideoError(
                f"{name} holds floats from {pixels.min():g} to {pixels.max():g}: "
                "expected 0 to 1 (or uint8 from 0 to 255)"
            )
        pixels = np.rint(pixels.astype(np.float32) * 255).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise VideoError(f"{name} holds {pixels.dtype}: expected uint8 from 0 to 255, or floats from 0 to 1")
    return np.ascontiguousarray(pixels)


def _size(picture: UInt8[np.ndarray, "H W 3"]) -> str:
    height, width, _ = picture.shape
    return f"{width} x {height}"
