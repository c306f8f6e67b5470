"""The architectures in which the pocket pair comes."""

from __future__ import annotations

from specvlm.errors import ModelError
from specvlm.pocket.recipe.architecture import Architecture
from specvlm.pocket.recipe.llava_onevision import LlavaOnevision
from specvlm.pocket.recipe.qwen2_5_vl import Qwen25VL

ARCHITECTURES: dict[str, Architecture] = {made.model_type: made for made in (LlavaOnevision(), Qwen25VL())}


def architecture(family: str) -> Architecture:
    """`ModelError` if there is none of this name."""
    if family not in ARCHITECTURES:
        raise ModelError(f"the pocket pair comes as {', '.join(ARCHITECTURES)}, not as {family!r}")
    return ARCHITECTURES[family]
