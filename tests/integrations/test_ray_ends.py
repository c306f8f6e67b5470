"""What of a run on Ray ends with what: the head, the driver, the process that asks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import psutil
import pytest

from integrations.ray_jobs import jobs, load_from
from specvlm.errors import OptionError
from specvlm.evals.run_folder import read_run
from specvlm.integrations.ray_data import ray_data

PIPES: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}

COMMAND = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from specvlm.cli import main; main()"
)
"""The command line. Where the tests run in the background, it would inherit that Ctrl-C is not for it."""

HEAD = """
import sys
import psutil
from ray.cluster_utils import Cluster
node = {"num_cpus": 2, "object_store_memory": 2**27, "include_dashboard": False}
running = Cluster(initialize_head=True, head_node_args=node)
print(running.address, flush=True)
die = sys.stdin.readline().split()
for process in psutil.Process().children(recursive=True):
    if process.name() in die:
        process.kill()
sys.stdin.read()
running.shutdown()
"""
"""A cluster of which dies what it is told."""


@pytest.fixture
def evaluating(pair: Path, film: Path, tmp_path: Path) -> Callable[..., Any]:
    """Run `specvlm eval` on Ray, with more to do than anybody waits for; what is yielded has begun to record."""
    data, out = tmp_path / "data", tmp_path / "run"
    data.mkdir()
    (data / "film.mp4").write_bytes(film.read_bytes())
    row = json.dumps({"video": "film.mp4", "question": "what?"}) + "\n"
    (data / "questions.jsonl").write_text(row * 2000)
    models = ["--target", pair / "target", "--draft", pair / "draft", "--dtype", "float32", "--num-frames", 4]
    asked = ["--task", "folder", "--data", data, "--out", out, "--max-new-tokens", 8, "--engine", "ray"]

    @contextmanager
    def begin(*more: object) -> Iterator[subprocess.Popen[str]]:
        command = [sys.executable, "-c", COMMAND, "eval", *map(str, (*models, *asked, *more))]
        with subprocess.Popen(command, env=environment(), **PIPES) as asks:
            results = out / "results.jsonl"
            while asks.poll() is None and not (results.exists() and results.stat().st_size):
                time.sleep(0.1)
            yield asks

    return begin


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def born_of(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def those_left(processes: list[psutil.Process], seconds: float) -> list[str]:
    """Which of them still run after so long."""
    until = time.monotonic() + seconds
    left = processes
    while left and time.monotonic() < until:
        left = [process for process in left if is_running(process)]
        time.sleep(0.1)
    return [process.name() for process in left]


def is_running(process: psutil.Process) -> bool:
    """Also where nobody asks how an orphan ended."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("dies", ["gcs_server raylet", "gcs_server", "raylet"])
def test_a_head_that_dies_is_told_in_a_line(evaluating: Callable[..., Any], tmp_path: Path, dies: str) -> None:
    """By the whole command: left to itself, Ray ends its driver with the exit code of an answer that differs."""
    with subprocess.Popen([sys.executable, "-c", HEAD], env=environment(), **PIPES) as head:
        say, hear = piped(head)
        address = hear.readline().strip()
        with evaluating("--ray-address", address) as asks:
            say.write(f"{dies}\n")
            say.flush()
            _, said = asks.communicate(timeout=120)
        say.close()
    *noise, last = said.splitlines()
    assert last.startswith(f"error: the Ray at {address} is gone: ")
    assert asks.returncode == 2
    assert not any(complains(line) for line in noise)
    assert read_run(tmp_path / "run").records


def complains(line: str) -> bool:
    """Rather than being one of what libraries say at every start."""
    return any(word in line for word in ("Traceback", "connect", "ray", "Ray", "rror:", "Killed"))


def piped(process: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("by", "code"),
    [
        (signal.SIGKILL, -signal.SIGKILL),
        (signal.SIGINT, 130),
        (signal.SIGTERM, -signal.SIGTERM),
    ],
)
def test_a_local_ray_ends_with_the_process_that_asks(
    evaluating: Callable[..., Any], by: signal.Signals, code: int, tmp_path: Path
) -> None:
    with evaluating() as asks:
        born = born_of(asks.pid)
        assert {"gcs_server", "raylet"} <= {process.name() for process in born}
        asks.send_signal(by)
        _, said = asks.communicate(timeout=120)
    assert asks.returncode == code
    assert not any(complains(line) for line in said.splitlines())
    assert those_left(born, 30.0) == []
    assert read_run(tmp_path / "run").records


@pytest.mark.slow
def test_a_driver_that_dies_without_a_word_is_told_in_a_line(pair: Path, film: Path) -> None:
    before = psutil.Process().children()
    records = ray_data(load_from(pair))(jobs(film))
    next(records)
    born = [process for process in psutil.Process().children() if process not in before]
    [driver] = [process for process in born if any("ray_driver" in word for word in process.cmdline())]
    # Ray's agents try for a minute to tell its head that it is dead.
    its = [process for process in driver.children(recursive=True) if "Agent" not in process.name()]
    assert {"gcs_server", "raylet"} <= {process.name() for process in its}
    driver.kill()
    with pytest.raises(OptionError, match=r"^the Ray of this run is gone: start the run again"):
        list(records)
    assert those_left(its, 30.0) == []
