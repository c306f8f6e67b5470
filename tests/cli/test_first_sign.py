"""On a terminal there is something to read before PyTorch is imported, which takes seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import importlib.abc, io, sys
from typer.testing import CliRunner
from specvlm.cli import app

class Terminal(io.StringIO):
    def isatty(self):
        return True

class NotYet(importlib.abc.MetaPathFinder):
    seen = []
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "transformers", "av", "jinja2", "matplotlib"):
            self.seen.append(sys.stderr.getvalue())
            raise RuntimeError("enough was seen")

sys.meta_path.insert(0, NotYet())
for line in sys.argv[1].splitlines():
    NotYet.seen.clear()
    sys.stderr = screen = Terminal()
    try:
        app(line.split(), standalone_mode=False)
    except BaseException:
        pass
    finally:
        sys.stderr = sys.__stderr__
    assert NotYet.seen, f"{line}: nothing was imported: {screen.getvalue()}"
    assert " ..." in NotYet.seen[0], f"{line}: {NotYet.seen[0]!r} was all there was to read"
"""

LINES = """
generate film.mp4 what?
generate film.mp4 what? --pruner uniform
chat film.mp4
compare film.mp4 what?
explain film.mp4 what?
explain film.mp4 what? --png pictures
demo
demo --save film.mp4
plan
plan --predict
pruners
bench --repeats 1
bench --html bench.html
eval --out run
sweep --out run
report run
report run --html runs.html
convert run --to paper
""".strip()


def test_every_command_says_something_first(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"no film")
    environment = {"PYTHONPATH": ":".join(sys.path), "TERM": "xterm"}
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, LINES], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
