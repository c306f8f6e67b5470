"""One picture, whatever it comes in, as RGB pixels: exactly those of `transformers.image_utils.load_image`."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

import numpy as np
from jaxtyping import Int64, Shaped, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from specvlm.errors import VideoError, brief
from specvlm.video.files.container import HEAD_SIZE, BinaryFile, VideoFile, blaming, nothing_to_see
from specvlm.video.files.doors import binary
from specvlm.video.files.packets import Scan
from specvlm.video.room import require_frame

FORMATS = ("AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "TGA", "TIFF", "WEBP")
"""What is read, by content. Others are refused: some hand the file to an interpreter (EPS to Ghostscript), and the rest
is read by code that few have tried."""

INTERPRETED = ("EPS", "WMF")
"""Of these Pillow runs something else to see anything."""

BROKEN = (SyntaxError, EOFError, LookupError, TypeError, struct.error, Image.DecompressionBombError)
"""What Pillow raises over broken files, besides the errors that any file may cause."""


def load_image(source: Any) -> UInt8[np.ndarray, "H W 3"]:
    """Read one picture, to stand in a prompt beside a video.

    `source` is a path, a `file:` or `data:` URI, bytes, an open binary file (left open and where it stood), an array or
    tensor [H, W, 3] or [3, H, W] (uint8, or floats in 0..1), or a PIL image. A photo is turned upright as its EXIF data
    asks; transparency is dropped; of a moving picture it is the first. The pixels are the caller's own to change.

    Raises `VideoError` for a source that can't be read as a picture, and for one of more than `room.MAX_FRAME_PIXELS`.
    """
    return np.array(picture(source, f"the {type(source).__name__}"))


def picture(source: Any, name: str) -> UInt8[np.ndarray, "H W 3"]:
    """The pixels of a picture from wherever it is; `name` is for messages about what has no name of its own."""
    if isinstance(source, Tensor):
        return rgb(to_numpy(source), name)
    if isinstance(source, np.ndarray):
        return rgb(source, name)
    if isinstance(source, Image.Image):
        if source.format in INTERPRETED:
            raise VideoError(f"{name} is an unread {source.format}, which is drawn by an interpreter: convert it first")
        with blaming_pillow(name):
            return upright_rgb(source, name)
    if isinstance(source, str | os.PathLike | bytes | bytearray | memoryview) or hasattr(source, "read"):
        with binary(source, "picture") as (file, file_name):
            return read_picture(file, file_name)
    raise VideoError(
        f"{name} is of type {type(source).__name__}: "
        "expected an array, a tensor, a PIL image, a path, bytes or an open binary file"
    )


def read_picture(file: BinaryFile, name: str) -> UInt8[np.ndarray, "H W 3"]:
    """The picture that a binary file holds from its first byte on."""
    with blaming_pillow(name):
        file.seek(0)
        try:
            image = open_picture(file)
        except UnidentifiedImageError as error:
            file.seek(0)
            head = file.read(HEAD_SIZE)
            plain = _drawing(head) or nothing_to_see(head) or f"is in none of the formats {', '.join(FORMATS)}"
            raise VideoError(f"{name} {plain}: expected a picture, such as JPEG, PNG or WebP") from error
        with image:
            return upright_rgb(image, name, in_place=True)


def open_picture(file: BinaryFile) -> Image.Image:
    """What Pillow finds in a file, if it is in one of `FORMATS`. Errors: Pillow's own."""
    Image.init()  # an old Pillow doesn't know all of them
    return Image.open(cast(IO[bytes], file), formats=[each for each in FORMATS if each in Image.OPEN])


def _drawing(head: bytes) -> str | None:
    """What kind of drawing a file is, if it is one: a program that something else would have to run."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text[:4] in (b"%!PS", b"\xc5\xd0\xd3\xc6"):
        return "is PostScript, which is drawn by an interpreter and not read"
    if text[:5] == b"%PDF-":
        return "is a PDF, which is drawn by an interpreter and not read"
    if text[:4] == b"\xd7\xcd\xc6\x9a" or text[40:44] == b" EMF":
        return "is a Windows metafile, which is drawn by Windows and not read"
    if text[:4] == b"<svg" or (text[:5] == b"<?xml" and b"<svg" in text):
        return "is an SVG, which is drawn by an interpreter and not read"
    return None


def read_photo(
    source: VideoFile, scan: Scan, places: Int64[np.ndarray, " chosen"]
) -> UInt8[np.ndarray, "chosen H W 3"] | None:
    """The only frame of a video file that is a picture. None if Pillow can't read it: FFmpeg may.

    PyAV can't read EXIF data, and so doesn't learn of a photo that it is mirrored.
    """
    try:
        return read_picture(source.file, source.name)[None][places]
    except VideoError:
        return None


def upright_rgb(image: Image.Image, name: str, *, in_place: bool = False) -> UInt8[np.ndarray, "H W 3"]:
    """The pixels of the picture that an image stands at, turned as its EXIF data asks; transparency is dropped.

    `in_place` if nobody wants the image itself any more: it is turned, rather than a copy of it."""
    require_frame(*image.size, name)
    upright = image
    if in_place:
        ImageOps.exif_transpose(image, in_place=True)
    else:
        upright = ImageOps.exif_transpose(image)
    return np.asarray(upright if upright.mode == "RGB" else upright.convert("RGB"))


@contextmanager
def blaming_pillow(name: str) -> Iterator[None]:
    """Say in a `VideoError` which picture it was, whatever Pillow stumbles over."""
    with blaming(name, "picture"):
        try:
            yield
        except BROKEN as error:
            raise VideoError(f"{name} can't be read as a picture: {brief(error)}") from error


def to_numpy(tensor: Shaped[Tensor, "..."]) -> Shaped[np.ndarray, "..."]:
    """The values of a tensor from wherever it is, in a type that numpy has."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def rgb(pixels: Shaped[np.ndarray, "..."], name: str, *leading: str) -> UInt8[np.ndarray, "... H W 3"]:
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
