"""State: where an answer stands, on the device. A round reads it and writes it over; its tensors stay where they
are."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from jaxtyping import Int
from torch import Tensor

NO_TOKEN = -1


@dataclass(frozen=True, eq=False)
class State:
    """Counters and tokens, all of them int64. A captured round reads these very tensors, whichever answer they tell of.

    In each model's cache, a position of text is its place plus an offset: no two tokens of text stand alike.
    """

    target_length: Int[Tensor, " 1"]
    """Places in use in the target's cache: the prompt, and the answer but for its last token, the root."""
    target_offset: Int[Tensor, " 1"]
    draft_length: Int[Tensor, " 1"]
    draft_offset: Int[Tensor, " 1"]
    waiting: Int[Tensor, " 2"]
    """What the draft hasn't read of the answer: the root, and before it a leaf that was accepted, if it was one."""
    num_waiting: Int[Tensor, " 1"]
    eos_ids: Int[Tensor, " eos"]

    @classmethod
    def on(cls, device: torch.device, num_eos: int) -> State:
        """One of no answer yet, for up to so many tokens that end one."""
        sizes = {"waiting": 2, "eos_ids": max(1, num_eos)}
        with torch.inference_mode(False):
            return cls(
                **{
                    each.name: torch.full((sizes.get(each.name, 1),), NO_TOKEN, dtype=torch.long, device=device)
                    for each in fields(cls)
                }
            )

    def copy(self) -> State:
        return State(**{name: tensor.clone() for name, tensor in vars(self).items()})

    def restore(self, other: State) -> None:
        """Be as `other` is, in the same tensors."""
        for name, tensor in vars(self).items():
            tensor.copy_(getattr(other, name))

    def write(self, **numbers: list[int]) -> None:
        """Set what the host knows better; what is left over of a tensor names no token."""
        for name, given in numbers.items():
            tensor: Tensor = getattr(self, name)
            tensor.copy_(torch.tensor(given + [NO_TOKEN] * (len(tensor) - len(given))), non_blocking=True)
