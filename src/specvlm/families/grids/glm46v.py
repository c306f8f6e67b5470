"""GLM-4.6V (arXiv:2507.01006): the tenth of a second is written behind each two frames."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar, final

from specvlm.families.grids.glm_v import GlmV


@final
class Glm46V(GlmV):
    """Stock `Glm46VForConditionalGeneration`. How long a video is decides alone how many frames its processor takes."""

    model_type: ClassVar[str] = "glm46v"
    heeds: ClassVar[Collection[str] | None] = ()
