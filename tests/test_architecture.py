"""docs/architecture.md names what there is: files that exist, and every room."""

from __future__ import annotations

import re
from pathlib import Path

import specvlm

HOUSE = Path(specvlm.__file__).parent
PAGE = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_every_file_that_answers_a_question_exists():
    table = PAGE.partition("## Where is ...?")[2].partition("\n## ")[0]
    paths = set(re.findall(r"`([a-z_/]+(?:\.py|/))`", table))
    assert paths
    assert {path for path in paths if not (HOUSE / path).exists()} == set()


def test_every_file_in_the_drawing_exists_and_every_room_is_drawn():
    drawing = PAGE.partition("```\n")[2].partition("```")[0]
    there = {path.name for path in HOUSE.rglob("*.py")}
    assert set(re.findall(r"\b[a-z]\w*\.py\b", drawing)) <= there
    rooms = {path.parent.name for path in HOUSE.rglob("*.py")} - {HOUSE.name}
    assert {room for room in rooms if f"{room}/" not in drawing} == set()
