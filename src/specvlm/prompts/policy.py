"""The names of what `positions.py` can do: what an option may be, known before PyTorch is."""

from __future__ import annotations

from typing import Literal

PositionPolicy = Literal["compact", "original"]
"""Where a draft's kept tokens stand: closed up, or at the positions that the target has them at."""
