"""Pixels as towers take them: made of frames a few at a time, and brought to where a tower works."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import islice
from typing import Any, final

import numpy as np
import torch
from torch import Tensor
from transformers import LlavaOnevisionVideoProcessor, Qwen2VLVideoProcessor, Qwen3VLVideoProcessor
from transformers.image_utils import SizeDict
from transformers.video_processing_utils import BaseVideoProcessor

FRAME_BY_FRAME = (LlavaOnevisionVideoProcessor, Qwen2VLVideoProcessor, Qwen3VLVideoProcessor)
"""Video processors that we know to look at one frame at a time, but for the size that all of them get."""

FRAMES_PER_BATCH = 4
"""Frames that are prepared together: whole temporal patches. More would wait for each other."""


def frame_by_frame(video_processor: Any) -> bool:
    return type(video_processor) in FRAME_BY_FRAME


def unfilled(inputs: Mapping[str, Any], *, pinned: bool = False) -> dict[str, Any]:
    """What a processor made, with room in the place of tensors that it could make no values for: on the device "meta".
    In `pinned` memory it is copied to a GPU while the host goes on."""
    return {
        name: torch.empty(value.shape, dtype=value.dtype, pin_memory=pinned)
        if isinstance(value, Tensor) and value.is_meta
        else value
        for name, value in inputs.items()
    }


def batches(
    video_processor: Any,
    frames: Iterator[np.ndarray],
    height: int,
    width: int,
    timed: Callable[[], AbstractContextManager[object]],
) -> Iterator[Tensor]:
    """What the processor makes of all the frames together, to the bit, some of them at a time. `height` x `width` is
    the size in pixels that it then gives them."""
    size = SizeDict(height=height, width=width)
    while pictures := list(islice(frames, FRAMES_PER_BATCH)):
        with timed():
            batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
            if video_processor.do_resize:
                # As its own `resize` ends, which would choose a size for these frames alone.
                batch = BaseVideoProcessor.resize(video_processor, batch, size, video_processor.resample)
            made = video_processor([batch], do_resize=False, do_sample_frames=False, return_tensors="pt")
            rows = made["pixel_values_videos"]
        yield rows[0] if rows.ndim > 2 else rows


@final
class Courier:
    """Brings pixels to a tower. On a GPU on a stream of its own, beside what is computed there."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def bring(self, pixels: Tensor, dtype: torch.dtype) -> Tensor:
        """Pixels that stay where they are for now."""
        if self._stream is None:
            return pixels.to(self._device, dtype)
        with torch.cuda.stream(self._stream):
            there = pixels.to(self._device, non_blocking=True).to(dtype)
        current = torch.cuda.current_stream(self._device)
        current.wait_stream(self._stream)
        there.record_stream(current)
        return there
