"""Where a token's place lies in its frame."""

from __future__ import annotations

import math


def grid_of(num_places: int, aspect: float) -> tuple[int, int]:
    """Rows and columns of the grid that `num_places` tokens make of a frame `aspect` times as wide as it is high.

    Models lay their tokens out row by row over the whole frame, in cells that are about square: of all ways to divide
    the number, the one nearest to the frame's own shape.
    """
    divisors = [rows for rows in range(1, num_places + 1) if num_places % rows == 0]
    rows = min(divisors, key=lambda rows: abs(math.log(num_places / rows / rows / aspect)))
    return rows, num_places // rows
