"""What models can be loaded with and videos be read by, by the names that people use. Neither PyTorch nor anything of
ours is imported: the command line lists these before it waits for any of it."""

from __future__ import annotations

from typing import Literal

Dtype = Literal["auto", "float64", "float32", "bfloat16", "float16"]
"""Of weights and of all that is computed; `auto`: as in the checkpoint."""

Quantization = Literal["nf4", "int8", "float8"]
"""Of the language model's weights, as `quantization_config`."""

VideoBackend = Literal["auto", "pyav", "straight", "torchcodec"]
"""Who decodes the frames of a video file: `video.load`."""

KEYWORDS = {"quantization": "quantization_config"}
"""What `from_pretrained` calls those that have a name of their own on the command line."""
