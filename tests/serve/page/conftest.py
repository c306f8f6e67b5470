"""What opens a page is where there is a browser: Playwright's package, and Chromium as the system has it."""

from __future__ import annotations

import shutil
from importlib.util import find_spec

CHROMIUM = shutil.which("chromium")

collect_ignore = [] if CHROMIUM and find_spec("playwright") else ["test_in_a_browser.py"]
