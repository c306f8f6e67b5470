"""What a figure was measured on. There is no GPU here: a stand-in says what PyTorch would say of one."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from specvlm.machine import driver_version, machine, processor, versions


def with_gpus(number: int, cudnn: int | None = 91002) -> Any:
    """As much of PyTorch as is asked, on a machine with so many GPUs."""
    gpu = SimpleNamespace(name="A fast GPU", total_memory=80 << 30, major=9, minor=0)
    return SimpleNamespace(
        get_num_threads=lambda: 3,
        cuda=SimpleNamespace(device_count=lambda: number, get_device_properties=lambda which: gpu),
        version=SimpleNamespace(cuda="13.0"),
        backends=SimpleNamespace(cudnn=SimpleNamespace(version=lambda: cudnn)),
    )


def tool(folder: Path, script: str) -> tuple[str, ...]:
    """A program that stands in for nvidia-smi."""
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return (str(path), "--query")


def test_without_a_gpu_nothing_is_said_of_cuda():
    found = machine(with_gpus(0))
    assert found.keys() == {"platform", "cpu", "cores", "threads", "gpus", "cuda"}
    assert (found["gpus"], found["cuda"]) == ([], None)
    assert machine().keys() == found.keys()


def test_a_gpu_is_told_with_its_memory_and_all_that_stands_in_front_of_it():
    found = machine(with_gpus(2))
    assert found["gpus"] == [{"name": "A fast GPU", "memory_bytes": 80 << 30, "compute_capability": "9.0"}] * 2
    assert found["cuda"] == {"driver": driver_version(), "runtime": "13.0", "cudnn": "9.10.2"}
    assert found["threads"] == 3


@pytest.mark.parametrize(("number", "version"), [(91002, "9.10.2"), (90000, "9.0.0"), (8907, "8.9.7"), (None, None)])
def test_the_version_of_cudnn_is_read_from_its_number(number, version):
    assert machine(with_gpus(1, number))["cuda"]["cudnn"] == version


def test_what_works_is_called_by_its_name():
    found = machine(with_gpus(2))
    cpu, first, second = (torch.device(name) for name in ("cpu", "cuda:0", "cuda:1"))
    assert processor(found, ()) == processor(found, (cpu,)) == found["cpu"]
    assert processor(found, (cpu, first)) == "A fast GPU"
    assert processor(found, (first, second)) == "A fast GPU + A fast GPU"


def test_the_driver_is_asked_for_its_version(tmp_path):
    assert driver_version(tool(tmp_path, 'printf "580.65.06\\n580.65.06\\n"')) == "580.65.06"


@pytest.mark.parametrize("script", ["exit 9", "echo", "printf '\\377\\376'", "echo broken >&2; exit 1"])
def test_a_driver_that_does_not_answer_is_no_crash(tmp_path, script):
    assert driver_version(tool(tmp_path, script)) is None


def test_where_there_is_no_such_tool_there_is_no_driver(tmp_path):
    assert driver_version((str(tmp_path / "none"), "--query")) is None


def test_versions_are_versions():
    assert versions().keys() - {"triton"} == {"python", "specvlm", "torch", "transformers", "av"}
    assert all(re.match(r"\d+(\.|\+)", version) for version in versions().values())
