"""The one read of a round: begun where the report is made, and waited for when the host has nothing better to do."""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Int
from torch import Tensor


@final
class Reading:
    """Numbers on their way to the host. What is given to the device after this one was made needn't be waited for."""

    def __init__(self, numbers: Int[Tensor, " n"]) -> None:
        self._numbers, self._done = numbers, None
        if numbers.device.type == "cuda":
            # Only a copy to memory that can't be swapped goes on while the host does.
            self._numbers = torch.empty_like(numbers, device="cpu", pin_memory=True)
            self._numbers.copy_(numbers, non_blocking=True)
            self._done = torch.cuda.Event()
            self._done.record()

    def wait(self) -> list[int]:
        if self._done is not None:
            self._done.synchronize()
        return self._numbers.tolist()
