"""AdamW on a float32 master copy of bfloat16 weights, all of them laid out as one vector."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class MasterAdamW:
    """Trains `parameters` (bfloat16, of one device) through a float32 copy that the optimiser owns.

    Weights and gradients become views into two flat bfloat16 tensors, so a step is a handful of calls whatever the
    number of layers: on a CPU, small tensors cost more in dispatch than in arithmetic.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], weight_decay: float = 0.01) -> None:
        self.parameters = [p for p in parameters if p.requires_grad]
        self.weights = torch.cat([p.data.flatten() for p in self.parameters])
        self.gradients = torch.zeros_like(self.weights)
        start = 0
        for p in self.parameters:
            end = start + p.numel()
            p.data = self.weights[start:end].view_as(p)
            p.grad = self.gradients[start:end].view_as(p)
            start = end
        self.master = self.weights.float()
        self.adamw = torch.optim.AdamW([self.master], betas=(0.9, 0.98), weight_decay=weight_decay, fused=True)

    def step(self, learning_rate: float, max_norm: float = 1.0) -> Tensor:
        """One update from the accumulated gradients, which are cleared. Returns their norm before clipping."""
        gradient = self.gradients.float()
        norm = gradient.norm()
        self.master.grad = gradient.mul_(torch.clamp(max_norm / (norm + 1e-6), max=1.0))
        self.adamw.param_groups[0]["lr"] = learning_rate
        self.adamw.step()
        self.weights.copy_(self.master)
        self.gradients.zero_()
        return norm

    def state_dict(self) -> dict:
        return {"master": self.master, "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self.master.copy_(state["master"])
        self.adamw.load_state_dict(state["adamw"])
        self.weights.copy_(self.master)
