"""What is free: of a machine, of one of its devices."""

from __future__ import annotations

import pytest
import torch

from specvlm.families.room.memory import Gpu, Memory, memory_here


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
    assert found.ram is not None
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


def test_what_cannot_be_known_stays_so():
    unknown = Memory(None)
    assert unknown.free(torch.device("cpu")) is None
    assert unknown.less(4, torch.device("cpu")) == unknown
