"""Runs on Ray: what the local engine says, whatever dies meanwhile."""

from __future__ import annotations

import os
import pickle
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

import psutil
import pytest
import ray
from ray import cloudpickle
from ray.cluster_utils import Cluster
from typer.testing import CliRunner

import specvlm
from evals.records import answered
from integrations import mortal
from integrations.ray_jobs import NUM_SAMPLES, SETTING, jobs, load_from
from specvlm.cli import app
from specvlm.comparing.compare import ARMS
from specvlm.errors import ModelError, OptionError
from specvlm.evals.evaluate import Job, Record
from specvlm.evals.run_folder import read_run
from specvlm.evals.runner import key_of, local
from specvlm.evals.sample import Sample
from specvlm.integrations import ray_child
from specvlm.integrations.ray_data import MAX_ATTEMPTS, gather, ray_data
from specvlm.integrations.ray_driver import OBJECT_STORE, packed

# Ray deprecates its own settings whenever it makes them.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*", "ignore::FutureWarning:ray.*")

TIMED = ("time", "timeline", "phases", "peak_memory_bytes")


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


def running(name: str) -> list[psutil.Process]:
    """Processes that this one or its cluster has started, by a part of what they are called."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if name in " ".join(process.cmdline()):
                found.append(process)
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
    @pytest.mark.slow
    def test_a_killed_actor_loses_nothing(self, cluster: str, pair: Path, film: Path, tmp_path: Path) -> None:
        asked = jobs(film, fatal=3)
        load = partial(mortal.load, pair, 1, tmp_path / "graves")
        there = by_key(ray_data(load, address=cluster, num_actors=2)(asked))
        assert len(list((tmp_path / "graves").iterdir())) == 1
        assert not differences(there, by_key(local(load_from(pair))(asked)))

    @pytest.mark.slow
    def test_what_kills_every_actor_is_broken_and_alone(
        self, cluster: str, pair: Path, film: Path, tmp_path: Path, here: dict[Any, Record]
    ) -> None:
        load = partial(mortal.load, pair, 100, tmp_path / "graves")
        there = by_key(ray_data(load, address=cluster, num_actors=1)(jobs(film, fatal=2)))
        assert len(list((tmp_path / "graves").iterdir())) == MAX_ATTEMPTS
        assert "actors died" in there.pop(("default", "2", None))["error"]
        assert not differences(there, {key: record for key, record in here.items() if key[1] != "2"})

    @pytest.mark.slow
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

    @pytest.mark.slow
    def test_a_run_that_is_abandoned_leaves_the_cluster(self, cluster: str, pair: Path, film: Path) -> None:
        records = ray_data(load_from(pair), address=cluster)(jobs(film))
        next(iter(records))
        assert running("ray_driver")
        assert running("ray::MapWorker")
        assert not ray.is_initialized()
        records.close()  # type: ignore[attr-defined]
        assert not running("ray_driver")
        until = time.monotonic() + 30
        while running("ray::MapWorker") and time.monotonic() < until:
            time.sleep(0.1)
        assert not running("ray::MapWorker")

    @pytest.mark.slow
    def test_a_process_that_is_connected_stays_so(self, cluster: str, film: Path) -> None:
        def load() -> Any:
            raise OptionError(f"the actors were told {os.environ['TOLD']}")

        with ray.init(cluster, log_to_driver=False, runtime_env={"env_vars": {"TOLD": "so"}}):
            with pytest.raises(OptionError, match="told so"):
                list(ray_data(load, num_gpus=1.0)(jobs(film)))  # only the cluster has what counts as a GPU
            assert ray.is_initialized()

    @pytest.mark.slow
    def test_paths_are_those_of_the_process_that_asks(
        self, cluster: str, pair: Path, film: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(pair)
        load = partial(specvlm.load, "target", "draft", dtype="float32")
        job = Job(Sample(sample_id="0", video=os.path.relpath(film), question="what?"), SETTING, ("specvlm",))
        [record] = ray_data(load, address=cluster)([job])
        assert record["error"] is None
        assert record["video"] == job.sample.video

    @pytest.mark.slow
    def test_the_command_line_writes_the_folder_here(
        self, cluster: str, pair: Path, film: Path, tmp_path: Path
    ) -> None:
        models = ["--target", pair / "target", "--draft", pair / "draft", "--dtype", "float32", "--num-frames", 4]
        data = ["--task", "folder", "--data", film.parent, "--out", tmp_path, "--max-new-tokens", 8]
        how = ["--engine", "ray", "--ray-address", cluster, "--num-actors", 1, "--num-gpus", 0]
        told = CliRunner().invoke(app, ["eval", *map(str, (*models, *data, *how))])
        assert told.exit_code == 0, told.output
        records = read_run(tmp_path).records
        assert [(record["arm"], record["error"]) for record in records] == [(arm, None) for arm in ARMS]
        assert (tmp_path / "report.html").exists()

    @pytest.mark.slow
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


PROGRAM = """
import sys
from pathlib import Path
import beside
from integrations.ray_jobs import jobs
from specvlm.integrations.ray_data import ray_data

def load():
    return beside.load(PAIR)

if __name__ == "__main__":
    PAIR, film = map(Path, sys.argv[1:])
    for record in ray_data(load)(jobs(film)[:1]):
        print(record["arm"], record["error"])
"""


@pytest.mark.slow
def test_a_program_may_load_by_itself_and_by_what_stands_beside_it(pair: Path, film: Path, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "beside.py").write_text(
        "from integrations.ray_jobs import load_from\nload = lambda pair: load_from(pair)()"
    )
    command = [sys.executable, tmp_path / "program.py", pair, film]
    path = os.pathsep.join(each for each in sys.path if each)
    ran = subprocess.run(command, cwd=pair, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [f"{arm} None" for arm in SETTING.arms]


@pytest.mark.part(2)
@pytest.mark.parametrize("says", [b"", b"HTTP/1.0 400 Bad Request\r\n\r\n"])
def test_a_listener_that_is_no_ray_is_not_waited_for(film: Path, monkeypatch: pytest.MonkeyPatch, says: bytes) -> None:
    monkeypatch.setattr(ray_child, "ANSWERS_WITHIN", 10.0)
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


class OddError(Exception):
    """One that can be pickled and not be unpickled."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"{what} {where}")


def test_errors_of_the_driver_are_raised_as_they_are_where_they_can_be() -> None:
    refused, missing, odd = [pickle.loads(packed(error)) for error in raised()]
    assert (type(refused), str(refused)) == (ModelError, "no such thing")
    assert (type(missing), str(missing)) == (KeyError, "'x'")
    assert (type(odd), str(odd)) == (RuntimeError, "OddError: left behind")
    assert not hasattr(refused, "__notes__")
    assert all("in raised" in "".join(error.__notes__) for error in (missing, odd))


def raised() -> Iterator[Exception]:
    for error in (ModelError("no such thing"), KeyError("x"), OddError("left", "behind")):
        try:
            raise error
        except Exception as caught:  # noqa: BLE001  # as it is where it was raised
            yield caught


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
    assert told.exit_code == 2
    assert told.stderr.startswith("error: Invalid value for '--engine': 'spark' is not one of 'local', 'ray'")
    assert not (tmp_path / "run").exists()
