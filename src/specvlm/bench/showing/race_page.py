"""Screenshots of the page of `specvlm serve`, when a race is over."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

SIZES = {1280: 900, 420: 1560}
SCHEMES = ("light", "dark")
PATIENCE = 300
"""Seconds for the server to begin, and for a race to end."""


def photograph(chrome: str, folder: Path) -> None:
    """Serve the embedded pair, and let it race about its demo film in each size and scheme.

    `chrome` is the browser. Raises SystemExit if the page complains.
    """
    from playwright.sync_api import sync_playwright

    with _served() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chrome, args=["--no-sandbox"])
        for (width, height), scheme in product(SIZES.items(), SCHEMES):
            with browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme) as context:
                page, complaints = context.new_page(), []
                page.set_default_timeout(1000 * PATIENCE)
                page.on("console", lambda message, found=complaints: found.append(message.text))
                page.goto(address)
                _race(page)
                page.screenshot(path=folder / f"serve-{width}-{scheme}.png")
            if complaints:
                raise SystemExit(f"the page of specvlm serve: {complaints}")


def _race(page: Any) -> None:
    page.click("#demo")
    page.wait_for_selector("#looks canvas")
    page.click("#go")
    page.wait_for_selector(".again button")


@contextmanager
def _served() -> Iterator[str]:
    """The address of a server of the embedded pair."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with subprocess.Popen([sys.executable, "-m", "specvlm", "serve", "--port", str(port)]) as server:
        try:
            end = time.monotonic() + PATIENCE
            while not _is_up(address):
                if server.poll() is not None or time.monotonic() > end:
                    raise SystemExit("specvlm serve did not begin")
                time.sleep(0.2)
            yield address
        finally:
            server.terminate()


def _is_up(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health"):
            return True
    except OSError:
        return False
