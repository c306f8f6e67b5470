"""The fuzz itself: what ends as none may is noticed, by its name, and what is finished isn't tried again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

FOUND = {
    "right": "answered",
    "refused": "refused",
    "traceback": "traceback",
    "signal": "traceback",
    "hang": "late",
    "large": "large",
    "large-for-a-moment": "large",
    "wrong": "silently wrong",
    "answered": "silently wrong",
    "two-lines": "otherwise",
    "refused-for-nothing": "otherwise",
    "unheard": "otherwise",
}


def planted(folder: Path) -> subprocess.CompletedProcess[str]:
    """In a process that nobody else has threads in: it forks."""
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])
    return subprocess.run(
        [sys.executable, "-m", "fuzz.planted", str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": paths},
    )


def test_what_ends_as_nothing_may_is_noticed(tmp_path: Path):
    first = planted(tmp_path)
    assert first.returncode == 1, first.stderr
    [log] = tmp_path.iterdir()
    head, *lines = log.read_text().splitlines()
    assert {found["name"]: found["verdict"] for found in map(json.loads, lines)} == FOUND
    assert "| **all** | 12 | 1 | 1 | 2 | 3 | 2 | 3 |" in first.stdout
    wrong = [name for name, verdict in FOUND.items() if verdict not in ("answered", "refused")]
    assert all(f'make fuzz ARGS="--only planted/{name}"' in first.stdout for name in wrong)
    assert "planted/right" not in first.stdout

    log.write_text("\n".join([head, *lines[:-1], lines[-1][:20]]))  # ended while it wrote
    again = planted(tmp_path)
    assert again.returncode == 1
    assert len(again.stderr.splitlines()) <= 2  # one case alone is tried, and told of if it is wrong
    assert again.stdout.count("alone: ") == len(wrong)
    assert {found["name"]: found["verdict"] for found in map(json.loads, log.read_text().splitlines()[1:])} == FOUND
