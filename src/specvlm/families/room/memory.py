"""What is free on this machine: facts, as data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import psutil
import torch

CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUP = Path("/proc/self/cgroup")


@final
@dataclass(frozen=True)
class Gpu:
    """As torch counts them; `free` bytes, whoever has the others."""

    index: int
    name: str
    free: int


@final
@dataclass(frozen=True)
class Memory:
    """`ram`: bytes that the CPU's models may take at the very most, swap included."""

    ram: int
    gpus: tuple[Gpu, ...] = ()

    def free(self, device: torch.device) -> int | None:
        """Bytes; None where they can't be known."""
        if device.type == "cpu":
            return self.ram
        number = device.index or 0
        return next((gpu.free for gpu in self.gpus if device.type == "cuda" and gpu.index == number), None)

    def less(self, taken: int, device: torch.device | None) -> Memory:
        """What is left when so many bytes of a device are taken; of several devices (None) nobody knows which."""
        if device is None:
            return self
        if device.type == "cpu":
            return replace(self, ram=self.ram - taken)
        gpus = (replace(gpu, free=gpu.free - taken) if gpu.index == device.index else gpu for gpu in self.gpus)
        return replace(self, gpus=tuple(gpus))


def memory_here(cuda: Any = torch.cuda) -> Memory:
    """`cuda` stands in for torch's own. A GPU that can't be asked can't be used, and isn't told of."""
    gpus = []
    for number in range(cuda.device_count()):
        with suppress(RuntimeError):
            gpus.append(Gpu(number, cuda.get_device_name(number), cuda.mem_get_info(number)[0]))
    ram = psutil.virtual_memory().available + psutil.swap_memory().free
    return Memory(min([ram, *_left_in_groups()]), tuple(gpus))


def _left_in_groups() -> Iterator[int]:
    """What the control groups of this process, which containers are made of, still allow."""
    with suppress(OSError):
        for line in OWN_GROUP.read_text().splitlines():
            number, kinds, path = line.split(":", 2)
            if number != "0" and "memory" not in kinds.split(","):
                continue
            root = CGROUPS if number == "0" else CGROUPS / "memory"
            folder = root / path.lstrip("/")
            for group in (folder, *(each for each in folder.parents if each.is_relative_to(root))):
                left = left_in(group)
                if left is not None:
                    yield left


def left_in(group: Path) -> int | None:
    """Of one group, by version 2 or 1 of the kernel's files; None if it has no limit. What it holds of files doesn't
    count: the kernel lets go of it."""
    for limit, taken in (("memory.max", "anon"), ("memory.limit_in_bytes", "total_rss")):
        with suppress(OSError, ValueError, KeyError):  # no such file, or `max`
            most = int((group / limit).read_text())
            counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            return max(0, most - int(counts[taken]))
    return None
