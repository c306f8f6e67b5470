"""What tests of widened models share."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLRMSNorm


@pytest.fixture
def exact_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    """RMSNorm in the dtype of its input. Stock ones go through float32, and hide what float64 could show."""

    def forward(self: Any, hidden: torch.Tensor) -> torch.Tensor:
        mean_square = hidden.pow(2).mean(-1, keepdim=True)
        return self.weight * (hidden * torch.rsqrt(mean_square + self.variance_epsilon))

    for norm in (Qwen2RMSNorm, Qwen2_5_VLRMSNorm):
        monkeypatch.setattr(norm, "forward", forward)
