"""Twenty SIGKILLs at random moments over one evaluation, whose results are then those of an undisturbed one."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from specvlm.answering.options import Options
from specvlm.evals.experiment import Experiment
from specvlm.evals.reporting.metrics import metrics_of
from specvlm.evals.run_folder import Run, read_run
from specvlm.evals.runner import local
from specvlm.evals.settings import Setting
from specvlm.pipeline import load

NUM_KILLS = 20
NUM_SAMPLES = 24
TIMED = {"time", "timeline", "phases", "peak_memory_bytes", "tokens_per_second", "video"}
"""What no two runs have in common, besides what ends in `seconds` or `speedup`."""

WORKER = """
import sys
sys.path[:0] = {paths!r}
from parity.test_kills import experiment, engine
experiment({films!r}).carry_out(
    {out!r},
    engine(),
    on_begin=lambda left: print("begun", flush=True),
    on_record=lambda record: print("one", flush=True),
)
"""


def experiment(films: str) -> Experiment:
    """Of films that lie there: made anew, some would be a byte longer."""
    options = Options(num_frames=8, max_new_tokens=40)
    arms = ("ar", "sd", "specvlm")  # none that learns: a killed one has forgotten
    settings = (Setting(options, arms),)
    return Experiment(task="pocket", task_options={"data": films}, num_samples=NUM_SAMPLES, settings=settings)


def engine():
    return local(lambda: load("pocket", dtype="float32"))


def told(run: Run) -> list[dict]:
    """What the answers were, without how long they took."""
    return [
        {key: value for key, value in record.items() if key not in TIMED and not key.endswith(("seconds", "speedup"))}
        for record in run.records
    ]


@pytest.mark.parity
def test_twenty_kills_change_nothing(tmp_path: Path) -> None:
    out, script = tmp_path / "killed", tmp_path / "worker.py"
    films = str(tmp_path / "films")
    paths = [str(Path(__file__).parents[1]), *filter(None, sys.path)]
    script.write_text(textwrap.dedent(WORKER).format(paths=paths, out=str(out), films=films))
    chance, kills, lives = random.Random(7), 0, []
    while True:
        with subprocess.Popen(
            [sys.executable, script], stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}
        ) as worker:
            assert worker.stdout is not None
            assert worker.stdout.readline() == b"begun\n"
            if kills < NUM_KILLS:
                wanted = chance.choice((0, 0, 1, 1, 2))
                for _ in range(wanted):
                    worker.stdout.readline()
                time.sleep(chance.uniform(0.0, 0.15 if wanted else 1.5))
                worker.send_signal(signal.SIGKILL)
            else:
                worker.stdout.read()
        lives.append(len(read_run(out).records))
        if worker.returncode == 0:
            break
        assert worker.returncode == -signal.SIGKILL
        kills += 1
    assert kills == NUM_KILLS
    assert lives == sorted(lives)
    assert len(set(lives)) > NUM_KILLS // 3  # it was killed at many points of its way
    killed = read_run(out)
    undisturbed = experiment(films).carry_out(tmp_path / "undisturbed", engine())
    assert len(killed.records) == 3 * NUM_SAMPLES
    assert told(killed) == told(undisturbed)
    assert all(record["identical"] and record["error"] is None for record in killed.records)
    arms = [metrics_of(run)["settings"]["default"]["arms"] for run in (killed, undisturbed)]
    assert [arm["scores"] for arm in arms[0].values()] == [arm["scores"] for arm in arms[1].values()]
