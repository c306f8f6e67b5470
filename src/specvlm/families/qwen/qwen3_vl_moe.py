"""Qwen3-VL with a mixture of experts (arXiv:2511.21631): the same eyes and positions, other feed-forward layers."""

from __future__ import annotations

from typing import ClassVar, final

from specvlm.families.qwen.qwen_vl import MergesDeep


@final
class Qwen3VLMoe(MergesDeep):
    """Stock `Qwen3VLMoeForConditionalGeneration`."""

    model_type: ClassVar[str] = "qwen3_vl_moe"
