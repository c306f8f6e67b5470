"""Runs on Ray: what the local engine says, whatever dies meanwhile."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import cloudpickle
from ray.cluster_utils import Cluster
from typer.testing import CliRunner

import specvlm
import video_zoo
from evals.records import answered
from integrations import mortal
from specvlm.answering.options import Options
from specvlm.cli import app
from specvlm.errors import ModelError, OptionError
from specvlm.evals.evaluate import Job, Record
from specvlm.evals.run_folder import read_run
from specvlm.evals.runner import key_of, local
from specvlm.evals.sample import Sample
from specvlm.evals.settings import Setting
from specvlm.integrations import ray_head
from specvlm.integrations.ray_data import MAX_ATTEMPTS, OBJECT_STORE, gather, ray_data
from specvlm.pipeline import SpecVLM
from tiny import llava_model, llava_processor, noised

# Ray deprecates its own settings whenever it makes them.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*", "ignore::FutureWarning:ray.*")

SETTING = Setting(Options(num_frames=4, max_new_tokens=8, pruning_ratio=0.5))
NUM_SAMPLES = 6
TIMED = ("time", "phases", "peak_memory_bytes")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pair")
    model = llava_model(seed=1)
    for name, it in (("target", model), ("draft", noised(model, 0.05))):
        it.save_pretrained(folder / name)
        llava_processor().save_pretrained(folder / name)
    return folder


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return video_zoo.write(tmp_path_factory.mktemp("film") / "film.mp4", 12)


@pytest.fixture(scope="module")
def here(pair: Path, film: Path) -> dict[Any, Record]:
    """What the local engine says."""
    return by_key(local(load_from(pair))(jobs(film)))


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster that somebody else has started: one node with room for two actors, and a GPU by name."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    node = {"num_cpus": 2, "num_gpus": 1, "object_store_memory": OBJECT_STORE, "include_dashboard": False}
    running = Cluster(initialize_head=True, head_node_args=node)
    cloudpickle.register_pickle_by_value(mortal)  # its nodes have specvlm installed, but not these tests
    yield str(running.address)
    cloudpickle.unregister_pickle_by_value(mortal)
    running.shutdown()


def load_from(pair: Path) -> partial[SpecVLM]:
    return partial(specvlm.load, pair / "target", pair / "draft", dtype="float32")


def jobs(film: Path, fatal: int | None = None) -> list[Job]:
    """One with a video that isn't there among them, and one that kills on demand."""
    questions = [mortal.FATAL if number == fatal else f"what {'is ' * number}here?" for number in range(NUM_SAMPLES)]
    videos = [str(film)] * (NUM_SAMPLES - 1) + [str(film.with_name("missing.mp4"))]
    samples = [
        Sample(sample_id=str(number), video=video, question=question)
        for number, (video, question) in enumerate(zip(videos, questions, strict=True))
    ]
    return [Job(sample, SETTING, SETTING.arms) for sample in samples]


def by_key(records: Iterator[Record]) -> dict[Any, Record]:
    """By what they are of, without what is measured and not computed."""
    found = {}
    for record in records:
        assert key_of(record) not in found
        found[key_of(record)] = {
            name: value
            for name, value in record.items()
            if name not in TIMED and not name.endswith(("seconds", "per_second", "speedup"))
        }
    return found


def differences(there: dict[Any, Record], here: dict[Any, Record]) -> list[tuple[Any, ...]]:
    """What isn't the same, by record and field."""
    assert there.keys() == here.keys()
    return [
        (*key, name, value, here[key].get(name))
        for key, record in there.items()
        for name, value in record.items()
        if value != here[key].get(name)
    ]


def test_two_actors_say_what_the_local_engine_says(pair: Path, film: Path, here: dict[Any, Record]) -> None:
    there = by_key(ray_data(load_from(pair), num_actors=2)(jobs(film)))
    assert not differences(there, here)
    assert not ray.is_initialized()
    assert len(there) == 3 * (NUM_SAMPLES - 1) + 1
    assert sum(record["error"] is not None for record in there.values()) == 1
    assert any(record.get("num_accepted") for record in there.values())


class TestOnARunningCluster:
    def test_a_killed_actor_loses_nothing(self, cluster: str, pair: Path, film: Path, tmp_path: Path) -> None:
        asked = jobs(film, fatal=3)
        load = partial(mortal.load, pair, 1, tmp_path / "graves")
        there = by_key(ray_data(load, address=cluster, num_actors=2)(asked))
        assert len(list((tmp_path / "graves").iterdir())) == 1
        assert not differences(there, by_key(local(load_from(pair))(asked)))

    def test_what_kills_every_actor_is_broken_and_alone(
        self, cluster: str, pair: Path, film: Path, tmp_path: Path, here: dict[Any, Record]
    ) -> None:
        load = partial(mortal.load, pair, 100, tmp_path / "graves")
        there = by_key(ray_data(load, address=cluster, num_actors=1)(jobs(film, fatal=2)))
        assert len(list((tmp_path / "graves").iterdir())) == MAX_ATTEMPTS
        assert "actors died" in there.pop(("default", "2", None))["error"]
        assert not differences(there, {key: record for key, record in here.items() if key[1] != "2"})

    def test_errors_are_those_of_the_local_engine(self, cluster: str, pair: Path, film: Path, tmp_path: Path) -> None:
        nowhere = partial(specvlm.load, tmp_path / "nowhere")
        no_draft = partial(specvlm.load, pair / "target")
        for load, kind in ((nowhere, ModelError), (no_draft, OptionError)):
            with pytest.raises(kind) as told_here:
                list(local(load)(jobs(film)))
            with pytest.raises(kind) as told_there:
                list(ray_data(load, address=cluster)(jobs(film)))
            assert str(told_there.value) == str(told_here.value)
            assert not ray.is_initialized()

    def test_a_run_that_is_abandoned_leaves_the_cluster(self, cluster: str, pair: Path, film: Path) -> None:
        records = ray_data(load_from(pair), address=cluster)(jobs(film))
        next(iter(records))
        assert ray.is_initialized()
        records.close()  # type: ignore[attr-defined]
        time.sleep(0.5)  # a thread of Ray Data's that was left behind would connect again
        assert not ray.is_initialized()

    def test_paths_are_those_of_the_process_that_asks(
        self, cluster: str, pair: Path, film: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(pair)
        load = partial(specvlm.load, "target", "draft", dtype="float32")
        job = Job(Sample(sample_id="0", video=os.path.relpath(film), question="what?"), SETTING, ("specvlm",))
        [record] = ray_data(load, address=cluster)([job])
        assert record["error"] is None
        assert record["video"] == job.sample.video

    def test_the_command_line_writes_the_folder_here(
        self, cluster: str, pair: Path, film: Path, tmp_path: Path
    ) -> None:
        models = ["--target", pair / "target", "--draft", pair / "draft", "--dtype", "float32", "--num-frames", 4]
        data = ["--task", "folder", "--data", film.parent, "--out", tmp_path, "--max-new-tokens", 8]
        how = ["--engine", "ray", "--ray-address", cluster, "--num-actors", 1, "--num-gpus", 0]
        told = CliRunner().invoke(app, ["eval", *map(str, (*models, *data, *how))])
        assert told.exit_code == 0, told.output
        records = read_run(tmp_path).records
        assert [(record["arm"], record["error"]) for record in records] == [(arm, None) for arm in SETTING.arms]
        assert (tmp_path / "report.html").exists()

    @pytest.mark.parametrize("part", [1.0, 0.5])
    def test_actors_on_gpus(self, cluster: str, pair: Path, film: Path, here: dict[Any, Record], part: float) -> None:
        """Ray only counts them, so that this machine needs none."""
        there = by_key(ray_data(load_from(pair), address=cluster, num_gpus=part)(jobs(film)[:2]))
        assert not differences(there, {key: record for key, record in here.items() if key[1] in "01"})

    @pytest.mark.parametrize("wanted", [{"num_gpus": 2.0}, {"num_cpus": 64.0}])
    def test_actors_that_fit_nowhere_are_not_waited_for(
        self, cluster: str, pair: Path, film: Path, wanted: dict[str, float]
    ) -> None:
        with pytest.raises(OptionError, match=r"fits on no machine of this Ray.*1 GPUs and 2 CPUs"):
            list(ray_data(load_from(pair), address=cluster, **wanted)(jobs(film)))
        assert not ray.is_initialized()


def test_a_head_that_dies_is_told_in_a_line(pair: Path, film: Path, tmp_path: Path) -> None:
    """By the whole command: left to itself, Ray ends the process with the exit code of an answer that differs."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "film.mp4").write_bytes(film.read_bytes())
    row = json.dumps({"video": "film.mp4", "question": "what?"}) + "\n"
    (tmp_path / "data" / "questions.jsonl").write_text(row * 2000)
    models = ["--target", pair / "target", "--draft", pair / "draft", "--dtype", "float32", "--num-frames", 4]
    data = ["--task", "folder", "--data", tmp_path / "data", "--out", tmp_path / "run", "--max-new-tokens", 8]
    results = tmp_path / "run" / "results.jsonl"
    piped: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    piped |= {"text": True, "env": {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}}
    with subprocess.Popen([sys.executable, "-c", HEAD], **piped) as head:
        assert head.stdout is not None
        assert head.stdin is not None
        address = head.stdout.readline().strip()
        how = ["--engine", "ray", "--ray-address", address]
        command = [sys.executable, "-m", "specvlm", "eval", *map(str, (*models, *data, *how))]
        with subprocess.Popen(command, **piped) as asks:
            while asks.poll() is None and not (results.exists() and results.stat().st_size):
                time.sleep(0.1)
            head.stdin.write("die\n")
            head.stdin.flush()
            _, said = asks.communicate(timeout=120)
        head.stdin.close()
    *noise, last = said.splitlines()
    assert last.startswith(f"error: the Ray at {address} is gone: ")
    assert asks.returncode == 2
    assert not any("Traceback" in line or "connect" in line for line in noise)  # beside what is said at every start
    assert read_run(tmp_path / "run").records


HEAD = """
import sys
import psutil
from ray.cluster_utils import Cluster
node = {"num_cpus": 2, "object_store_memory": 2**27, "include_dashboard": False}
running = Cluster(initialize_head=True, head_node_args=node)
print(running.address, flush=True)
sys.stdin.readline()
for process in psutil.Process().children(recursive=True):
    if process.name() in ("gcs_server", "raylet"):
        process.kill()
sys.stdin.read()
running.shutdown()
"""
"""A cluster that dies when it is told to."""


@pytest.mark.parametrize("says", [b"", b"HTTP/1.0 400 Bad Request\r\n\r\n"])
def test_a_listener_that_is_no_ray_is_not_waited_for(film: Path, monkeypatch: pytest.MonkeyPatch, says: bytes) -> None:
    monkeypatch.setattr(ray_head, "ANSWERS_WITHIN", 10.0)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    callers.append(listener.accept()[0])
                    callers[-1].sendall(says)

        callers: list[socket.socket] = []
        threading.Thread(target=serve, daemon=True).start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(OptionError, match=f"no Ray at address '{address}'"):
            list(ray_data(lambda: None, address=address)(jobs(film)))  # type: ignore[arg-type]
        assert time.monotonic() - began < 60
        for caller in callers:
            caller.close()


def test_what_comes_twice_is_kept_once() -> None:
    first, again, other = answered("0", "ar", text="A"), answered("0", "ar", text="B"), answered("0", "sd")
    assert list(gather([[first], [again, other], [other]])) == [first, other]


def test_errors_among_the_answers_are_raised() -> None:
    with pytest.raises(ModelError, match="no such thing"):
        list(gather([ModelError("no such thing")]))


@pytest.mark.parametrize("wrong", [{"num_actors": 0}, {"num_gpus": -1.0}, {"num_cpus": -1.0}])
def test_impossible_numbers_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=next(iter(wrong))):
        ray_data(lambda: None, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nowhere"])
def test_an_address_without_a_cluster_is_refused(film: Path, address: str) -> None:
    with pytest.raises(OptionError, match="no Ray at address"):
        list(ray_data(lambda: None, address=address)(jobs(film)))  # type: ignore[arg-type]


def test_an_engine_that_there_is_not_is_refused(tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["eval", "--out", str(tmp_path / "run"), "--engine", "spark"])
    assert (told.exit_code, told.stderr) == (2, "error: engine must be local or ray, not 'spark'\n")
    assert not (tmp_path / "run").exists()
