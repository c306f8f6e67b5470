"""What every test shares. The hook that checks shape annotations is switched on in pyproject.toml."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from typing import Any

from hypothesis import settings

# No test may need the network. huggingface_hub reads this when it is imported, so it stands before any test.
os.environ["HF_HUB_OFFLINE"] = "1"

# What the plan measures is kept on disk: no test may find it there, or leave it in anybody's home.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="specvlm-tests-")
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

# A first forward is slow and a shared machine is slower: a deadline per example would fail at random.
settings.register_profile("specvlm", deadline=None)
settings.load_profile("specvlm")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how many generations were compared. It stands here since workers alone load the conftest of a folder."""
    # The counts are noted after the test itself, and only the report of the teardown has them.
    reports = [
        report
        for same_outcome in terminalreporter.stats.values()
        for report in same_outcome
        if getattr(report, "when", None) == "teardown"
    ]
    counts = {"compared": 0, "different": 0}
    for report in reports:
        for name, value in report.user_properties:
            if name in counts:
                counts[name] += value
    if counts["compared"]:
        terminalreporter.write_line(
            f"parity: {counts['compared']} generations compared with stock generate, {counts['different']} differences"
        )
