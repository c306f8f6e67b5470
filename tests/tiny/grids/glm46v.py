"""GLM-4.6V: tenths of seconds behind each two frames, and as many frames as the length of a video decides."""

from __future__ import annotations

from transformers import (
    Glm46VConfig,
    Glm46VForConditionalGeneration,
    Glm46VImageProcessor,
    Glm46VProcessor,
    Glm46VVideoProcessor,
    PreTrainedModel,
    ProcessorMixin,
)

from tiny import qwen
from tiny.grids import glm4v
from tiny.sizes import Sizes


def processor() -> ProcessorMixin:
    return Glm46VProcessor(
        image_processor=Glm46VImageProcessor(size=glm4v.size(2), **qwen.LOOK),
        video_processor=Glm46VVideoProcessor(size=glm4v.size(32), **qwen.LOOK),
        **glm4v.parts(),
    )


def model(sizes: Sizes) -> PreTrainedModel:
    return glm4v.decided(Glm46VForConditionalGeneration(Glm46VConfig(**glm4v.configs(sizes))))
