"""Grids of which every run of the tests tries a part, and `make parity` all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def part_of(values: Iterable[Any], every: int = 2) -> list[Any]:
    """The first of each `every` as it is, the others for `make parity`."""

    def left(value: Any) -> Any:
        return pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.slow)

    return [value if number % every == 0 else left(value) for number, value in enumerate(values)]
