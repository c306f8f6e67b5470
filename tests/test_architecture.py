"""docs/architecture.md and the Makefile name what there is: files that exist, every room, and every long grid."""

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


def test_make_parity_has_every_file_with_something_that_is_left_out_of_make_test():
    tests = Path(__file__).parent
    long = re.search(
        r"^long := ((?:.+\\\n)*.+)$", (tests.parent / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
    )
    run = {tests.parent / path for path in long[1].replace("\\", " ").split()}
    assert {path for path in run if not path.exists()} == set()
    marked = {
        path for path in tests.rglob("test_*.py") if re.search(r"\bmark\.(slow|parity)\b", path.read_text("utf-8"))
    }
    assert marked
    assert {path for path in marked if not run & {path, *path.parents}} == set()
