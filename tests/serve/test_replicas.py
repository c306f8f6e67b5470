"""Two replicas of the app on Ray Serve, started as the documentation says, one of which is killed under load."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from serving import CHAT, QUESTION, Asking, about, data, streamed, text_of, until, video
from specvlm import pocket
from specvlm.pipeline import SpecVLM
from specvlm.serve.measuring.serving import figure

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[2] / "docs" / "distributed.md"
NAME = "serve-multiplexed-model-id"
FILMS = ("first", "second")
START_SECONDS = 300
EACH = 3
"""Clients that ask about each film at once."""


@dataclass
class Served:
    """Two replicas behind one address."""

    address: str
    process: psutil.Process
    bodies: dict[str, dict[str, Any]]
    expected: dict[str, str]

    def ask(self, film: str, **more: Any) -> httpx.Response:
        return httpx.post(self.address + CHAT, json=self.bodies[film] | more, headers={NAME: film}, timeout=120)

    def streamed(self, film: str) -> str | None:
        return streamed(self.address, self.bodies[film], **{NAME: film})

    def page(self, film: str) -> str:
        """The figures of the replica that knows a film."""
        return httpx.get(self.address + "/metrics", headers={NAME: film}, timeout=60).text

    def replicas(self) -> list[psutil.Process]:
        return [each for each in self.process.children(recursive=True) if _is_replica(each)]


def _is_replica(process: psutil.Process) -> bool:
    try:
        is_one = process.cmdline()[:1] == ["ray::ServeReplica:default:specvlm"]
        return is_one and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _as_documented(folder: Path, port: int) -> Path:
    """The configuration of the documentation, on CPUs."""
    [block] = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(), re.DOTALL)
    config = yaml.safe_load(block)
    config["http_options"] |= {"host": "127.0.0.1", "port": port}
    del config["applications"][0]["args"]["api_key"]
    config["applications"][0]["args"] |= {"target": "pocket", "draft": "pocket", "num_replicas": 2, "num_gpus": 0}
    path = folder / "specvlm.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@contextmanager
def _running(config: Path, log: Path) -> Iterator[psutil.Process]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, "-m", "ray.serve.scripts", "run", str(config)]
    with log.open("w") as said, subprocess.Popen(command, env=environment, stdout=said, stderr=said) as process:
        running = psutil.Process(process.pid)
        try:
            yield running
        finally:
            born = running.children(recursive=True)
            process.send_signal(signal.SIGINT)
            process.wait(timeout=120)
            psutil.wait_procs(born, timeout=60)
    assert [each for each in born if each.is_running() and each.status() != psutil.STATUS_ZOMBIE] == []


@pytest.fixture(scope="module")
def replicated(vlm: SpecVLM, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("replicas")
    films = {name: pocket.demo_video(folder / f"{name}.mp4", number) for number, name in enumerate(FILMS)}
    bodies = {name: about(video(data(film)), max_tokens=24) for name, film in films.items()}
    asked: Any = {"question": QUESTION, "max_new_tokens": 24, "temperature": 0.0}
    expected = {name: vlm.autoregressive(film, **asked).text for name, film in films.items()}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "log"
    with _running(_as_documented(folder, port), log) as process:
        served = Served(f"http://127.0.0.1:{port}", process, bodies, expected)
        until(lambda: _answers(served, log), START_SECONDS)
        for film in FILMS:
            text_of(served.ask(film))
            time.sleep(3)  # replicas tell the proxy within a second what they know
        yield served


def _answers(served: Served, log: Path) -> bool:
    assert served.process.status() != psutil.STATUS_ZOMBIE, log.read_text()
    try:
        return httpx.get(served.address + "/health", timeout=5).text == '{"status":"ok"}'
    except httpx.HTTPError:
        return False


def test_questions_of_a_name_go_where_it_is_known(replicated):
    for film in (*FILMS, *FILMS):
        said = replicated.ask(film)
        assert text_of(said) == replicated.expected[film]
        assert said.json()["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
    for film in FILMS:  # each replica has seen one
        assert figure(replicated.page(film), "specvlm:video_cache_misses_total") == 1


def test_errors_and_streams_pass_as_they_are(replicated):
    refused = replicated.ask(FILMS[0], logprobs=True)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "logprobs"
    assert replicated.streamed(FILMS[0]) == replicated.expected[FILMS[0]]


def test_who_goes_away_stops_the_answer(replicated):
    def aborted() -> float:
        return sum(float(each) for each in re.findall(r'success_total{.*"abort"} (\S+)', replicated.page(FILMS[0])))

    before = aborted()
    body = replicated.bodies[FILMS[0]] | {"stream": True, "max_tokens": 512, "specvlm": {"tree": "chain", "depth": 1}}
    with httpx.stream("POST", replicated.address + CHAT, json=body, headers={NAME: FILMS[0]}, timeout=60) as response:
        next(response.iter_lines())
    until(lambda: aborted() == before + 1)


def test_a_replica_that_is_killed_takes_its_own_requests_alone(replicated):
    asking = Asking()
    asked = {film: (partial(replicated.streamed, film), replicated.expected[film]) for film in FILMS}
    with asking.going_on(EACH, asked):
        until(lambda: len(asking.answered) > 20)
        replicated.replicas()[0].kill()
        killed = time.monotonic()
        until(lambda: len(replicated.replicas()) == 2 and asking.answered[-1] > killed + 5, START_SECONDS)
    asking.require_lost_by_one(EACH, killed)
    for film in FILMS:
        assert text_of(replicated.ask(film)) == replicated.expected[film]
