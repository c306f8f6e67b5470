"""What is free on this machine: facts, as data."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, final

import torch

from specvlm.engine.host.memory import free_memory


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
    """`ram`: bytes that the CPU's models may take without swapping; None where the system doesn't tell."""

    ram: int | None
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
            return self if self.ram is None else replace(self, ram=self.ram - taken)
        gpus = (replace(gpu, free=gpu.free - taken) if gpu.index == device.index else gpu for gpu in self.gpus)
        return replace(self, gpus=tuple(gpus))


def memory_here(cuda: Any = torch.cuda) -> Memory:
    """`cuda` stands in for torch's own. A GPU that can't be asked can't be used, and isn't told of."""
    gpus = []
    for number in range(cuda.device_count()):
        with suppress(RuntimeError):
            gpus.append(Gpu(number, cuda.get_device_name(number), cuda.mem_get_info(number)[0]))
    return Memory(free_memory() or None, tuple(gpus))
