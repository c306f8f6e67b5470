"""How large frames may be: a file of a few bytes can claim a size that would fill any memory."""

from __future__ import annotations

from specvlm.errors import VideoError

MAX_FRAME_PIXELS = 2**27
"""Of one frame, in pixels: 16384 x 8192. Video in 12K fits, and so does a photo of 108 megapixels."""

MAX_PIXELS = 2**31
"""Of all the frames that are kept, in pixels: 6 GiB of memory, or 1035 frames in full HD."""


def require_frame(width: int, height: int, name: str) -> None:
    """Raise `VideoError` for a frame that is too large, before any memory is taken for it."""
    if width * height > MAX_FRAME_PIXELS:
        raise VideoError(
            f"{name} has frames of {width} x {height} pixels: the most that are read are {MAX_FRAME_PIXELS} a frame; "
            "scale it down first"
        )


def require_all(num_frames: int, width: int, height: int, name: str) -> None:
    """Raise `VideoError` for more frames of a size than are kept at once."""
    if num_frames * width * height > MAX_PIXELS:
        raise VideoError(
            f"{num_frames} frames of {width} x {height} pixels from {name} are {num_frames * width * height} pixels: "
            f"the most that are kept are {MAX_PIXELS}; ask for fewer frames, or scale it down first"
        )
