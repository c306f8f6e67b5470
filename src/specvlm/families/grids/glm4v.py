"""GLM-4.1V (arXiv:2507.01006): the second at which it is shown is written behind each two frames."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar, final

from specvlm.families.grids.glm_v import GlmV


@final
class Glm4v(GlmV):
    """Stock `Glm4vForConditionalGeneration`. Its video processor counts frames by `fps` and by nothing else."""

    model_type: ClassVar[str] = "glm4v"
    heeds: ClassVar[Collection[str] | None] = ("fps",)
