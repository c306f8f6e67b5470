"""Qwen3-VL (arXiv:2511.21631): DeepStack, and each frame's time written out in front of it."""

from __future__ import annotations

from typing import ClassVar, final

from specvlm.families.qwen.qwen_vl import MergesDeep


@final
class Qwen3VL(MergesDeep):
    """Stock `Qwen3VLForConditionalGeneration`."""

    model_type: ClassVar[str] = "qwen3_vl"
