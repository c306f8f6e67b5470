"""docs/models.md names every family, and says of each what is so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tiny
from specvlm.families import FAMILIES

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
POSITIONS = {1: "one row", 3: "three rows"}
OPTIONS = ("num_frames", "fps")


def table(head: str) -> dict[str, list[str]]:
    """Cells of the table whose first line begins so, by the families that stand in front."""
    assert PAGE.count(head) == 1
    return dict(_rows(PAGE[PAGE.index(head) :].splitlines()[2:]))


def _rows(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    for line in lines:
        if not line.startswith("|"):
            return
        names, *cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        for name in re.findall(r"`(\w+)`", names):
            yield name, cells


BY_CLASS = table("| `model_type` | stock class |")
BY_MEDIA = table("| `model_type` | text models |")


def test_every_family_stands_in_both_tables() -> None:
    assert BY_CLASS.keys() == BY_MEDIA.keys() == FAMILIES.keys()
    assert {len(cells) for cells in BY_CLASS.values()} == {len(cells) for cells in BY_MEDIA.values()} == {4}
    assert all(cell for cells in (*BY_CLASS.values(), *BY_MEDIA.values()) for cell in cells)


@pytest.mark.parametrize("name", tiny.BUILDERS | tiny.MORE | tiny.RECURRENT)
def test_a_family_is_as_its_row_says(name: str) -> None:
    made = tiny.family(tiny.model(name))
    decoder: Any = made.decoder
    stock, positions, taken_back, _ = BY_CLASS[name]
    assert stock == f"`{type(made.model).__name__}`"
    prompt = made.prepare((), "what?")
    assert positions == POSITIONS[len(prompt.position_ids)]
    assert taken_back == ("states, truncation" if decoder.folds else "truncation")
    heeds = made.heeds if made.heeds is not None else OPTIONS
    assert {option for option in OPTIONS if f"`{option}`" in BY_MEDIA[name][2]} == {*OPTIONS} & {*heeds}
