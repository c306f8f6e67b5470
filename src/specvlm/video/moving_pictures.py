"""Picture files of more than one picture that FFmpeg takes for something else: they are Pillow's to read.

An animated WebP is a video (FFmpeg sees one picture, and can't decode it). The pages of a TIFF are not: nothing says
that they show one thing, and nothing when. The pictures of an MPO are views of one photo, or aids to brighten it, and
the first of them is the photo (FFmpeg sees a film at 25 frames a second). GIF, APNG and AVIF are FFmpeg's.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image, UnidentifiedImageError

from specvlm.errors import VideoError
from specvlm.video.clip import Video
from specvlm.video.files.container import HEAD_SIZE, SHORT_PICTURE, BinaryFile, blaming
from specvlm.video.pictures import blaming_pillow, open_picture, upright_rgb
from specvlm.video.room import require_all, require_frame
from specvlm.video.sampling import Choose, Timeline

REDUCED = 254
"""The TIFF tag NewSubfileType: its lowest bit says that a page is a small copy of another one."""

PHOTO = Timeline(1, np.zeros(1), 1 / 25)
"""As FFmpeg has it for a single picture."""


def read_pictures(file: BinaryFile, name: str, choose: Choose) -> Video | None:
    """The frames that `choose` asks for, of an animated WebP or an MPO; None for any other file.

    A picture of 10 ms or less is shown for 100 ms, as browsers do; how often it all comes again is ignored. Errors:
    VideoError, also for a TIFF of several pages.
    """
    with blaming(name):
        file.seek(0)
        head = file.read(HEAD_SIZE)
    may_be = {
        "WEBP": head[:4] == b"RIFF" and head[8:12] == b"WEBP",
        "TIFF": head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
        "MPO": head[:2] == b"\xff\xd8",
    }
    if not any(may_be.values()):
        return None
    with blaming_pillow(name):
        file.seek(0)
        try:
            image = open_picture(file)
        except (UnidentifiedImageError, OSError):  # FFmpeg may know better
            return None
        with image:
            num_pictures = getattr(image, "n_frames", 1)
            if image.format == "TIFF" and num_pictures > 1:
                _refuse_pages(image, num_pictures, name)
            if image.format == "MPO" or "mp" in image.info:  # a photo with a gain map is no MPO to Pillow
                chosen = choose(PHOTO)
                return Video.chosen(upright_rgb(image, name)[None][chosen], PHOTO, chosen, name)
            if image.format == "WEBP" and num_pictures > 1:
                return _animated(image, num_pictures, name, choose)
    return None


def _refuse_pages(image: Image.Image, num_pictures: int, name: str) -> None:
    num_pages = 0
    for place in range(num_pictures):
        image.seek(place)
        num_pages += not getattr(image, "tag_v2", {}).get(REDUCED, 0) & 1
    if num_pages > 1:
        raise VideoError(
            f"{name} holds {num_pages} pages, and pages are not the frames of a video: save those to be seen as "
            "pictures in a folder"
        )


def _animated(image: Image.Image, num_pictures: int, name: str, choose: Choose) -> Video:
    require_frame(*image.size, name)
    starts, damage = [0.0], None
    for place in range(num_pictures):
        try:
            image.seek(place)
            image.load()
        except (OSError, EOFError, SyntaxError) as error:
            if place == 0:
                raise
            damage = f"only {place} of its {num_pictures} pictures can be decoded: {error}"
            break
        milliseconds = image.info.get("duration", 0)
        starts.append(
            starts[-1] + (10 * SHORT_PICTURE if milliseconds <= 1000 * SHORT_PICTURE else milliseconds / 1000)
        )
    timeline = Timeline(len(starts) - 1, np.round(starts[:-1], 6), round(starts[-1], 6))
    chosen = choose(timeline)
    require_all(len(chosen), *image.size, name)
    return Video.chosen(_pick(image, chosen, name), timeline, chosen, name, damage)


def _pick(image: Image.Image, chosen: Int64[np.ndarray, " chosen"], name: str) -> UInt8[np.ndarray, "chosen H W 3"]:
    frames = np.empty((0, 0, 0, 3), np.uint8)
    for row, place in enumerate(chosen.tolist()):
        image.seek(place)
        pixels = upright_rgb(image, name)
        if row == 0:
            frames = np.empty((len(chosen), *pixels.shape), np.uint8)
        frames[row] = pixels
    return frames
