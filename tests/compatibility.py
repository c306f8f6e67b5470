"""`make compat`: the drop-in, parity and the families on the oldest and on the newest transformers that we allow.

Each release gets a virtual environment of its own. The oldest is tried with everything else as in constraints.txt, the
newest with whatever pip takes today: so the next name that changes is heard of before users meet it. Uses nothing but
Python's own library.
"""

from __future__ import annotations

import datetime
import os
import re
import subprocess
import sys
import tomllib
import venv
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "compatibility.md"
TRIED = ("tests/integrations/test_transformers_generate.py", "tests/parity", "tests/families", "tests/answering")
SHOWN = ("transformers", "torch", "accelerate", "tokenizers", "huggingface_hub", "av", "numpy")
NEWEST = "newest"

HEAD = """# Compatibility

What `pip install .` may bring along, tried: stock `generate` with our drop-in, whole generations against it, and all
families, each release in an environment of its own. The oldest is tried with everything else as in `constraints.txt`,
the newest with whatever pip takes on that day. Made by `make compat`; every week CI tries the newest.

"""


@dataclass(frozen=True)
class Trial:
    """One release, and how the tests went with it."""

    versions: dict[str, str]
    passed: int
    failed: int

    @property
    def row(self) -> str:
        python = ".".join(map(str, sys.version_info[:3]))
        cells = [self.versions[name] for name in SHOWN] + [python, str(self.passed), str(self.failed)]
        return f"| {' | '.join(cells)} |"


def oldest() -> str:
    """The lower bound in pyproject.toml, as a full version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    line = next(line for line in project["dependencies"] if line.startswith("transformers"))
    bound = re.search(r">=([\d.]+)", line)
    if bound is None:
        raise SystemExit(f"pyproject.toml gives transformers no lower bound: {line!r}")
    return bound[1] if bound[1].count(".") > 1 else f"{bound[1]}.0"


def install(release: str) -> Path:
    """The Python of an environment with this release of transformers."""
    folder = ROOT / f".venv-compat-{release}"
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    venv.create(folder, with_pip=True)
    wanted = ["--upgrade", "transformers"]
    if release != NEWEST:
        lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        others = folder / "constraints.txt"
        others.write_text("\n".join(line for line in lines if not line.startswith("transformers==")), encoding="utf-8")
        wanted = ["-c", str(others), f"transformers=={release}"]
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "-q", *wanted, "-e", ".[tests]"]
    subprocess.run(command, cwd=ROOT, check=True)
    return python


def trial(release: str) -> Trial:
    """Install and test."""
    python = install(release)
    ask = "import importlib.metadata as m, sys; print(*map(m.version, sys.argv[1:]))"
    said = subprocess.run([str(python), "-c", ask, *SHOWN], check=True, capture_output=True, text=True).stdout.split()
    report = python.parents[1] / "report.xml"
    report.unlink(missing_ok=True)
    command = [str(python), "-m", "pytest", "-q", "-n", os.environ.get("JOBS", "2"), f"--junitxml={report}", *TRIED]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False)
    if not report.exists():
        raise SystemExit(f"pytest left no report about transformers {release}")
    suite = ElementTree.parse(report).getroot().find("testsuite")
    total, *bad = (int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped"))
    return Trial(dict(zip(SHOWN, said, strict=True)), total - sum(bad), sum(bad))


def main(releases: list[str]) -> int:
    trials: list[Trial] = []
    for release in releases or (oldest(), NEWEST):
        trials.append(trial(release))
        write(trials)  # each as soon as it is known: the next one may fail to install
    return int(any(each.failed or not each.passed for each in trials))


def write(trials: list[Trial]) -> None:
    """The page, of what has been tried so far."""
    names = [*SHOWN, "Python", "passed", "failed"]
    table = [f"| {' | '.join(names)} |", "|---" * len(names) + "|", *(each.row for each in trials)]
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    PAGE.write_text(f"{HEAD}{chr(10).join(table)}\n\nTried on {day}.\n", encoding="utf-8")
    sys.stdout.write("\n".join(table) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
