"""Qwen3.5 with a mixture of experts: the same eyes, positions and recurrence, other feed-forward layers."""

from __future__ import annotations

from typing import ClassVar, final

from specvlm.families.qwen.qwen3_5 import Recurrent


@final
class Qwen3_5Moe(Recurrent):  # noqa: N801 (the name it was published under)
    """Stock `Qwen3_5MoeForConditionalGeneration`."""

    model_type: ClassVar[str] = "qwen3_5_moe"
