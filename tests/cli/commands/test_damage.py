"""What a file lacks is told by every command that answers about it, and by none about a sound one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import video_zoo

LACKS = "its frames can't be decoded"


@pytest.fixture(scope="module")
def damaged(film: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return video_zoo.remux(
        film,
        tmp_path_factory.mktemp("films") / "damaged.mp4",
        lambda ordinal, packet: bytes(len(packet)) if ordinal == 6 else None,
    )


@pytest.mark.parametrize("command", ["generate", "compare", "explain"])
def test_it_is_told_once(run: Callable, film: Path, damaged: Path, small: list, tmp_path: Path, command: str) -> None:
    more = ["--out", tmp_path / "page.html"] if command == "explain" else []
    result = run(command, damaged, "what?", *small, *more)
    assert result.exit_code == 0, result.output
    assert result.stderr.count(LACKS) == 1
    assert "damaged.mp4: " in result.stderr
    assert LACKS not in run(command, film, "what?", *small, *more).stderr


def test_runs_record_it(run: Callable, damaged: Path, small: list, tmp_path: Path) -> None:
    asked = ["eval", "--task", "folder", "--data", damaged.parent, "--out", tmp_path / "run", "--arms", "ar,specvlm"]
    result = run(*asked, *small)
    assert result.exit_code == 0, result.output
    assert result.stderr.count(LACKS) == 1
    records = [json.loads(line) for line in (tmp_path / "run" / "results.jsonl").read_text().splitlines()]
    assert len(records) == 2
    assert all(LACKS in record["damage"][0] for record in records)
    assert run(*asked, *small).stderr.count(LACKS) == 1  # when it goes on with nothing left, too
