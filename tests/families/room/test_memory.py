"""What is free: of a machine, of one of its devices, of a container."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from specvlm.families.room.memory import Gpu, Memory, left_in, memory_here


class Cuda:
    """Two GPUs as torch tells of them, and one that is broken."""

    def device_count(self) -> int:
        return 3

    def get_device_name(self, number: int) -> str:
        return f"H{number}"

    def mem_get_info(self, number: int) -> tuple[int, int]:
        if number == 1:
            raise RuntimeError("CUDA error: unknown error")
        return 10 + number, 80


def test_gpus_are_told_of_by_what_is_free():
    assert memory_here(Cuda()).gpus == (Gpu(0, "H0", 10), Gpu(2, "H2", 12))


HERE = Memory(64, (Gpu(0, "A", 10), Gpu(1, "B", 20)))


def test_this_machine_has_some_and_no_more_than_it_has():
    found = memory_here()
    assert 2**20 < found.ram < 2**50
    assert len(found.gpus) == torch.cuda.device_count()


@pytest.mark.parametrize(
    ("device", "free"), [("cpu", 64), ("cuda:0", 10), ("cuda", 10), ("cuda:1", 20), ("cuda:7", None), ("meta", None)]
)
def test_each_device_has_its_own(device, free):
    assert HERE.free(torch.device(device)) == free


def test_what_is_taken_is_taken_where_it_is():
    assert HERE.less(4, torch.device("cuda", 1)) == Memory(64, (Gpu(0, "A", 10), Gpu(1, "B", 16)))
    assert HERE.less(4, torch.device("cpu")) == Memory(60, HERE.gpus)
    assert HERE.less(4, None) == HERE


def group(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def test_a_container_has_what_its_limit_leaves(tmp_path):
    """Files that it has read don't count: the kernel lets go of them."""
    new = group(tmp_path, memory__max="1000\n", memory__stat="anon 300\nfile 600\n")
    assert left_in(new) == 700


def test_or_one_by_the_older_rules(tmp_path):
    old = group(tmp_path, memory__limit_in_bytes="500\n", memory__stat="cache 400\ntotal_rss 600\n")
    assert left_in(old) == 0


@pytest.mark.parametrize("files", [{}, {"memory__max": "max\n", "memory__stat": "anon 1\n"}, {"memory__max": "7\n"}])
def test_or_no_limit(tmp_path, files):
    assert left_in(group(tmp_path, **files)) is None
