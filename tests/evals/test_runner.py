"""What is left to do is done, once, and on the disk at once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from evals.records import CONFIG, answered, failed
from specvlm.answering.options import Options
from specvlm.evals.evaluate import Job, Record, measured_against
from specvlm.evals.run_folder import open_run, read_run
from specvlm.evals.runner import pending, run
from specvlm.evals.sample import Sample
from specvlm.evals.settings import Setting
from specvlm.evals.tasks import MLVU, Task

ASKED, [SESSION] = CONFIG["asked"], CONFIG["sessions"]
SETTING = Setting(Options(pruning_ratio=0.9), ("ar", "sd", "specvlm"))
SAMPLES = [
    Sample(sample_id=str(number), video="x.mp4", question="?", choices=("red", "green"), answer="A")
    for number in range(3)
]


def keys(jobs: Sequence[Job]) -> list[tuple]:
    return [(job.sample.sample_id, job.setting.name, job.arms, job.oracle is not None) for job in jobs]


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return MLVU(data=str(tmp_path))


class TestPending:
    def test_all_of_a_new_run(self) -> None:
        assert keys(pending(SAMPLES, [SETTING], [])) == [
            (str(number), "default", ("ar", "sd", "specvlm"), False) for number in range(3)
        ]

    def test_arms_that_are_left_know_what_was_right(self) -> None:
        records = [answered("0", arm) for arm in ("ar", "sd", "specvlm")] + [answered("1", "ar")]
        assert keys(pending(SAMPLES, [SETTING], records)) == [
            ("1", "default", ("sd", "specvlm"), True),
            ("2", "default", ("ar", "sd", "specvlm"), False),
        ]

    def test_what_is_broken_stays_so_until_it_is_retried(self) -> None:
        records = [failed("0", None, "no video"), answered("1", "ar"), failed("1", "sd", "no memory")]
        assert keys(pending(SAMPLES, [SETTING], records)) == [
            ("1", "default", ("specvlm",), True),
            ("2", "default", ("ar", "sd", "specvlm"), False),
        ]
        assert keys(pending(SAMPLES, [SETTING], records, retry_broken=True)) == [
            ("0", "default", ("ar", "sd", "specvlm"), False),
            ("1", "default", ("sd", "specvlm"), True),
            ("2", "default", ("ar", "sd", "specvlm"), False),
        ]

    def test_a_broken_oracle_is_none(self) -> None:
        records = [failed("0", "ar", "no memory")]
        assert keys(pending(SAMPLES[:1], [SETTING], records)) == [("0", "default", ("sd", "specvlm"), False)]

    def test_settings_are_apart(self) -> None:
        other = Setting(Options(pruning_ratio=0.5), ("specvlm",), "half")
        records = [answered("0", arm) for arm in ("ar", "sd", "specvlm")]
        assert keys(pending(SAMPLES[:1], [SETTING, other], records)) == [("0", "half", ("specvlm",), False)]


def answers(jobs: Sequence[Job]) -> Iterator[Record]:
    """An engine that is right at once."""
    for job in jobs:
        oracle = job.oracle
        for arm in job.arms:
            made = answered(job.sample.sample_id, arm)
            oracle = made if arm == "ar" else oracle
            yield made | measured_against(made, oracle)


class TestRun:
    def carry_out(
        self, path: Path, task: Task, samples: Sequence[Sample], engine: Any = answers, **how: Any
    ) -> list[Record]:
        with open_run(path, ASKED, SESSION) as folder:
            run(folder, task, samples, pending(samples, [SETTING], folder.records, **how), engine)
        return read_run(path).records

    def test_grades_and_keeps(self, tmp_path: Path, task: Task) -> None:
        records = self.carry_out(tmp_path / "run", task, SAMPLES)
        assert [(record["sample"], record["arm"]) for record in records] == [
            (str(number), arm) for number in range(3) for arm in ("ar", "sd", "specvlm")
        ]
        assert all(record["scores"] == {"accuracy": [1, 1], "understood": [1, 1]} for record in records)

    def test_a_finished_run_asks_for_no_models(self, tmp_path: Path, task: Task) -> None:
        first = self.carry_out(tmp_path / "run", task, SAMPLES)

        def never(jobs: Sequence[Job]) -> Iterator[Record]:
            raise AssertionError(jobs)

        assert self.carry_out(tmp_path / "run", task, SAMPLES, never) == first

    def test_samples_that_cannot_be_asked_never_reach_the_engine(self, tmp_path: Path, task: Task) -> None:
        broken = Sample(sample_id="9", problem="there is no video '9'")
        records = self.carry_out(tmp_path / "run", task, [broken, *SAMPLES[:1]])
        assert [(record["sample"], record["arm"], record["error"]) for record in records] == [
            ("9", None, "there is no video '9'"),
            *(("0", arm, None) for arm in ("ar", "sd", "specvlm")),
        ]
        assert self.carry_out(tmp_path / "run", task, [broken, *SAMPLES[:1]]) == records

    def test_what_the_engine_yielded_before_it_broke_is_kept(self, tmp_path: Path, task: Task) -> None:
        def breaks(jobs: Sequence[Job]) -> Iterator[Record]:
            yield from answers(jobs[:1])
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            self.carry_out(tmp_path / "run", task, SAMPLES, breaks)
        assert len(read_run(tmp_path / "run").records) == 3
        assert len(self.carry_out(tmp_path / "run", task, SAMPLES)) == 9

    def test_any_order_will_do(self, tmp_path: Path, task: Task) -> None:
        """Other machines answer when they are ready."""

        def shuffled(jobs: Sequence[Job]) -> Iterator[Record]:
            records = list(answers(jobs))
            random.Random(0).shuffle(records)
            yield from records

        there = self.carry_out(tmp_path / "run", task, SAMPLES, shuffled)
        assert len({(record["sample"], record["arm"]) for record in there}) == 9


WORKER = """
import json, sys, time
sys.path[:0] = {paths!r}
from evals.records import CONFIG, answered
from specvlm.evals.run_folder import open_run
from specvlm.evals.runner import pending, run
from specvlm.evals.tasks import MLVU
from evals.test_runner import SETTING, many

def slowly(jobs):
    for job in jobs:
        for arm in job.arms:
            time.sleep(0.004)
            with open({log!r}, "a") as log:
                print(job.sample.sample_id, arm, file=log)
            yield answered(job.sample.sample_id, arm, text="A" * 20000)

samples = many()
with open_run({out!r}, CONFIG["asked"], CONFIG["sessions"][0]) as folder:
    print("begun", flush=True)
    run(folder, MLVU(data={data!r}), samples, pending(samples, [SETTING], folder.records), slowly)
"""


def many() -> list[Sample]:
    return [
        Sample(sample_id=str(number), video="x", question="?", choices=("red", "green"), answer="A")
        for number in range(60)
    ]


@pytest.mark.slow
def test_killed_again_and_again_nothing_is_lost_or_done_twice(tmp_path: Path) -> None:
    """SIGKILL at random moments of a run that does little but write: at most the answer in hand is made again."""
    out, log = tmp_path / "run", tmp_path / "log"
    script = tmp_path / "worker.py"
    tests = str(Path(__file__).parents[1])
    script.write_text(
        textwrap.dedent(WORKER).format(
            paths=[tests, *filter(None, sys.path)], out=str(out), log=str(log), data=str(tmp_path)
        )
    )
    chance = random.Random(20251123)
    kills = 0
    for _ in range(30):
        with subprocess.Popen(
            [sys.executable, script], stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}
        ) as worker:
            assert worker.stdout is not None
            assert worker.stdout.readline() == b"begun\n"
            if kills < 3:
                time.sleep(chance.uniform(0.0, 0.3))
                worker.send_signal(signal.SIGKILL)
            code = worker.wait()
        if code == 0:
            break
        assert code == -signal.SIGKILL
        kills += 1
    assert kills == 3
    made = log.read_text().split("\n")[:-1]
    records = read_run(out).records
    wanted = [(sample.sample_id, arm) for sample in many() for arm in ("ar", "sd", "specvlm")]
    assert [(record["sample"], record["arm"]) for record in records] == wanted
    assert {tuple(line.split()) for line in made} == set(wanted)
    assert len(made) <= len(wanted) + kills  # what was in hand when the kill came, and no more
    assert all(json.dumps(record) for record in records)
