"""A server in a process of its own, with the embedded pair, and films that it may be asked about."""

from __future__ import annotations

import base64
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from specvlm.errors import OptionError

START_SECONDS = 180.0


@contextmanager
def serving(*arguments: str) -> Iterator[str]:
    """The address of `specvlm serve` with these arguments, which ends with the block. Errors: OptionError."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "specvlm", "serve", *arguments, "--port", str(port)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + START_SECONDS
        while not _is_up(address):
            if process.poll() is not None or time.monotonic() > end:
                raise OptionError("the server did not start")
            time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait()


def _is_up(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def question(film: Path, text: str, **options: Any) -> dict[str, Any]:
    """The body of a greedy request about a film, which it holds."""
    data = "data:video/mp4;base64," + base64.b64encode(film.read_bytes()).decode()
    content = [{"type": "video_url", "video_url": {"url": data}}, {"type": "text", "text": text}]
    return {"messages": [{"role": "user", "content": content}], "temperature": 0, **options}


def figure(page: str, name: str) -> float:
    """One of `/metrics`."""
    found = re.search(rf"^{re.escape(name)}(?:\{{.*\}})? (\S+)$", page, re.MULTILINE)
    return float(found[1]) if found else 0.0
